"""The declared graph of Podstream and what derives from it: topics, stores, stages, settings, CLI."""
