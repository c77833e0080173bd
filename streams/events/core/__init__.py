"""Decoding, checking and deduplicating events, as pure functions."""
