"""Writing documents to MongoDB: batched, ordered, expired, by generation."""
