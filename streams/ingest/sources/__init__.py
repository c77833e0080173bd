"""The sources of episodes: PodcastIndex and RSS feeds."""
