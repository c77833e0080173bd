"""Listeners' events: validated, deduplicated and packed into columnar batches."""
