"""Where the log is poured into."""
