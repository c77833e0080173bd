"""The command `podstream`."""
