"""Serving: topics poured into MongoDB."""
