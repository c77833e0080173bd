"""A file of rows as bytes or lines, once it is unpacked and its encoding is known."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, Any

from streams.http.charsets import wide_encoding
from streams.http.decompress import GZIP_MAGIC

CHUNK = 20_000
"""Rows that are handed on at a time."""

_BOMS_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_BOMS_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT = 4_096

Advance = Callable[[float], None]
"""Is told which share of a file has been read, 0 to 1."""


class FileError(ValueError):
    """A file that cannot be imported at all; the text says why."""


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, no further than it was asked for.

    `gzip.GzipFile` fills what it is handed, and loses all of it where the file is broken within.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto1(buffer)


class Source:
    """A file, unpacked if it is packed, as bytes or as lines.

    ``fault`` says why the lines ended before the file did, empty if they did not.
    """

    def __init__(self, file: IO[bytes], name: str, advance: Advance) -> None:
        self.name, self.fault = name, ""
        self._raw, self.advance = file, advance
        self._size = file.seek(0, io.SEEK_END) or 1
        file.seek(0)
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        unpacked = io.BufferedReader(_Unpacked(file)) if packed else None
        self.file: IO[bytes] = unpacked or file
        self.packed = packed
        try:
            # No more than is needed: what follows may be broken, and is for `read` to say.
            self.head = unpacked.peek(_LOOKED_AT) if unpacked else file.read(_LOOKED_AT)
        except (EOFError, zlib.error, OSError) as error:
            raise FileError(f"{name} is no gzip file: {error}") from error
        if not packed:
            file.seek(0)
        self.encoding = _encoding_of(self.head[:_LOOKED_AT])
        self._text: io.TextIOWrapper | None = None

    def read(self, lines: IO[Any]) -> Iterator[Any]:
        """The lines up to the end, or to where a packed file is broken."""
        try:
            for number, line in enumerate(lines):
                if number % CHUNK == 0:
                    self.progress()
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.fault = f"the packed file is broken, what follows is lost: {error}"
        self.progress()

    def progress(self) -> None:
        """Say how far the file has been read."""
        self.advance(min(self._raw.tell() / self._size, 1.0))

    def text(self) -> io.TextIOWrapper:
        """The file as text, with the ends of lines as they are."""
        # Bytes that are no UTF-8 become surrogates, which the row's own check refuses.
        errors = "surrogateescape" if self.encoding == "utf-8-sig" else "replace"
        self._text = io.TextIOWrapper(self.file, self.encoding, errors, newline="")
        return self._text

    def let_go(self) -> None:
        """Leave the file to whoever opened it: text that is read of it would close it."""
        if self._text is not None and not self.file.closed:
            self._text.detach()

    def size_of(self, lines: Sequence[str]) -> int:
        """The bytes that lines take in the file, once it is unpacked."""
        encoding = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
        codec = encoding.get(self.encoding, self.encoding)
        errors = "surrogateescape" if codec == "utf-8" else "replace"
        return sum(len(line.encode(codec, errors)) for line in lines)

    def require(self, columns: Collection[str], required: Collection[str]) -> None:
        """FileError if one of the required columns is not there."""
        if missing := [column for column in required if column not in columns]:
            raise FileError(
                f"{self.name} has no column {', '.join(missing)}; "
                f"it has {', '.join(columns) or 'none'}"
            )


def _encoding_of(head: bytes) -> str:
    if head.startswith(_BOMS_UTF_32):
        return "utf-32"
    if head.startswith(_BOMS_UTF_16):
        return "utf-16"
    return wide_encoding(head) or "utf-8-sig"
