"""The folds of the live tables: no I/O, no clock, no random."""
