"""Reading transcripts in every format, as pure functions."""
