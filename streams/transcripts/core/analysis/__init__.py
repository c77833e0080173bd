"""What is worked out from a transcript: pure functions that never raise, on any text."""
