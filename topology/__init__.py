"""The declared graph and what derives from it: topics, stores, stages, settings."""
