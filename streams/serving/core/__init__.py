"""Documents made of records, as pure functions."""
