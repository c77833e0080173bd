"""The commands of `podstream`, one subject a module."""
