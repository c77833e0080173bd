"""Recommendations: lists for listeners, and the weights that are learnt from plays."""
