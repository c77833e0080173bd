from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.http.decompress import TooLargeError, Unpacker, UnpackError, unpack_file


def feed(encoding: str, limit: int, pieces: list[bytes]) -> bytes:
    unpacker = Unpacker(encoding, limit)
    for piece in pieces:
        unpacker.feed(piece)
    return unpacker.body()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[a:b] for a, b in pairwise(ends)]


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@given(
    st.binary(max_size=3000),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.sampled_from(["", "gzip", "twice", "deflate", "raw"]),
)
def test_however_a_body_is_cut_it_comes_back(body: bytes, places: list[int], form: str) -> None:
    half = len(body) // 2
    packed = {
        "": body,
        "gzip": gzip.compress(body),
        "twice": gzip.compress(body[:half]) + gzip.compress(body[half:]),
        "deflate": zlib.compress(body),
        "raw": raw_deflate(body),
    }[form]
    encoding = {"twice": "gzip", "raw": "deflate"}.get(form, form)
    assert feed(encoding, len(body), cut(packed, places)) == body
    if body:
        with pytest.raises(TooLargeError):
            feed(encoding, len(body) - 1, cut(packed, places))


@given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate"]), st.lists(st.integers(0, 600)))
def test_garbage_never_raises_anything_else(body: bytes, encoding: str, places: list[int]) -> None:
    with suppress(UnpackError, TooLargeError):
        assert len(feed(encoding, 1000, cut(body, places))) <= 1000


def test_a_body_without_its_end_is_told() -> None:
    packed = gzip.compress(b"words" * 100)
    with pytest.raises(UnpackError, match="without its end"):
        feed("gzip", 10_000, [packed[:-9]])
    with pytest.raises(UnpackError):
        feed("gzip", 10_000, [packed[:1]])


def test_only_a_gzip_file_is_unpacked_and_only_once() -> None:
    text = b"WEBVTT"
    assert unpack_file(text, 100) == text
    assert unpack_file(gzip.compress(text), 100) == text
    assert unpack_file(gzip.compress(gzip.compress(text)), 100) == gzip.compress(text)
