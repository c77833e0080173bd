"""Where episodes come from: PodcastIndex, RSS feeds, and an index of our own for the demo."""
