"""A machine without containers: its broker, its MongoDB server and their supervisor."""
