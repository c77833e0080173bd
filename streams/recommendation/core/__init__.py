"""Folding listeners in, scoring, blending and explaining, as pure functions."""
