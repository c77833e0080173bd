"""Vectors as they are in records: the components one after another, little-endian float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIRE = np.dtype("<f4")


def vector_bytes(vector: NDArray[np.floating[Any]]) -> bytes:
    """The bytes of a vector of n components: 4 n of them."""
    return vector.astype(_WIRE).tobytes()


def read_vector(value: bytes) -> NDArray[np.float32]:
    """The vector (n,) that is in 4 n bytes, read-only. ValueError if it is no such number."""
    return np.frombuffer(value, _WIRE)
