"""Unpacks bodies that a stranger compressed, without letting the result grow beyond a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

GZIP_MAGIC = b"\x1f\x8b"
ENCODINGS = ("gzip", "deflate")
"""What is asked for; nothing else is unpacked."""


_HEADER_BYTES = 2


class UnpackError(ValueError):
    """A body that is not packed as it says."""


class TooLargeError(ValueError):
    """A body that is larger than allowed once it is unpacked."""


class Unpacker:
    """Takes a packed body piece by piece and keeps at most ``limit`` bytes of what is in it."""

    def __init__(self, encoding: str, limit: int) -> None:
        """``encoding`` is `gzip`, `deflate` or empty for a body that is not packed."""
        self._encoding = encoding
        self._limit = limit
        self._body = bytearray()
        self._inflate = self._new(zlib.MAX_WBITS + 16 if encoding == "gzip" else zlib.MAX_WBITS)
        self._fresh = True
        self._held = b""

    @staticmethod
    def _new(window: int) -> zlib._Decompress:
        return zlib.decompressobj(window)

    def feed(self, piece: bytes) -> None:
        """Raises TooLargeError beyond the limit, UnpackError for what is not packed so."""
        if not self._encoding:
            self._keep(piece)
            return
        piece, self._held = self._held + piece, b""
        if self._fresh and len(piece) < _HEADER_BYTES:
            self._held = piece
            return
        while piece:
            try:
                if self._inflate.eof:
                    if self._encoding != "gzip" or not piece.startswith(b"\x1f"):
                        return  # what follows the end is filling
                    self._inflate = self._new(zlib.MAX_WBITS + 16)
                out = self._inflate.decompress(piece, self._limit + 1 - len(self._body))
            except zlib.error as error:
                if self._encoding == "deflate" and self._fresh:
                    # Some servers leave out the header that the standard asks for.
                    self._inflate, self._fresh = self._new(-zlib.MAX_WBITS), False
                    continue
                raise UnpackError(f"a broken {self._encoding} body") from error
            self._fresh = False
            self._keep(out)
            piece = self._inflate.unused_data if self._inflate.eof else b""

    def _keep(self, piece: bytes) -> None:
        self._body += piece
        if len(self._body) > self._limit:
            raise TooLargeError(f"it unpacks to more than the {self._limit:,} bytes allowed")

    def body(self) -> bytes:
        """The whole. Raises UnpackError if its end is missing."""
        if self._held or (self._encoding and not self._inflate.eof and not self._fresh):
            raise UnpackError(f"a {self._encoding} body without its end")
        return bytes(self._body)


def unpack_file(body: bytes, limit: int) -> bytes:
    """A body that is itself a gzip file, unpacked once; any other body as it is.

    Raises TooLargeError and UnpackError.
    """
    if not body.startswith(GZIP_MAGIC):
        return body
    unpacker = Unpacker("gzip", limit)
    for piece in _pieces(body):
        unpacker.feed(piece)
    return unpacker.body()


def _pieces(body: bytes, size: int = 65_536) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
