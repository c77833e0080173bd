"""Stages on Faust: the only place that touches what is private to it."""
