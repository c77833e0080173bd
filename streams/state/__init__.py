"""State of stages: protocols, the store with its logs and checkpoints, columnar tables."""
