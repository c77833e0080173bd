"""The Spark stages: Delta writer, embeddings, ALS training."""
