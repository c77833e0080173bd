"""What feeds and indexes say, as pure functions."""
