"""Comparing, digesting and reading imports, as pure functions."""
