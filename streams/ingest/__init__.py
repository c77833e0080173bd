"""Where episodes come from: feeds announced, discovered, downloaded and merged."""
