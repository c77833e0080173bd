"""Listeners' tastes and behaviour, as pure functions of a seed."""
