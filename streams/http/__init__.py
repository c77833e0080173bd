"""Asking strangers' servers: guarded fetching, rate limits, circuits, retries."""
