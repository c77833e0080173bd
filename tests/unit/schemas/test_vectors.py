"""Vectors go through records unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.vectors import read_vector, vector_bytes


def test_a_vector_is_what_it_was_and_its_bytes_are_little_endian() -> None:
    vector = np.array([1.0, -0.5, 3e-8])
    value = vector_bytes(vector)
    assert value[:8] == bytes.fromhex("0000803f000000bf")
    assert read_vector(value).tolist() == vector.astype(np.float32).tolist()
    assert vector_bytes(vector.astype(">f4")) == value


def test_a_broken_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        read_vector(b"12345")
