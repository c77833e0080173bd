"""The pure parts of the read API: documents in, answers out."""
