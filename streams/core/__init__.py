"""The logic of the stream stages as pure functions: no I/O, no wall clock, no random."""
