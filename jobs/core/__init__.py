"""The logic of the Spark stages as pure functions."""
