"""The demo: invented shows, an index that serves them, simulated listeners."""
