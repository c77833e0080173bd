"""The read API: what the log has become, over HTTP, for apps that show it to listeners."""
