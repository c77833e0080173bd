"""Messages of the MongoDB wire protocol: OP_MSG, and OP_QUERY for the first greeting.

Source: the MongoDB manual, "MongoDB Wire Protocol".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from streams.cli.local.mongo_server.documents import OPTIONS, Document

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
LARGEST = 48_000_000
"""Bytes of a message."""

_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
_CHECKSUM, _MORE_TO_COME = 1, 2
_BODY, _SEQUENCE = 0, 1

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=OPTIONS.datetime_conversion
)


class ProtocolError(Exception):
    """What came is no message of the protocol."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""
        ...


@dataclass(frozen=True)
class Message:
    """A command. ``arguments``: its body, with the document sequences in their places; documents
    in them are raw."""

    request: int
    opcode: int
    arguments: dict[str, Any]
    answered: bool = True

    @property
    def name(self) -> str:
        """What is to be done."""
        return next(iter(self.arguments), "")

    @property
    def database(self) -> str:
        """The database that it is about."""
        return str(self.arguments.get("$db", "admin"))


def read(source: Readable) -> Message | None:
    """The next message; None at the end. Raises ProtocolError."""
    header = source.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise ProtocolError("The connection ended within a message")
    length, request, _, opcode = _HEADER.unpack(header)
    if not _HEADER.size < length <= LARGEST:
        raise ProtocolError(f"A message of {length} bytes")
    payload = source.read(length - _HEADER.size)
    if len(payload) < length - _HEADER.size:
        raise ProtocolError("The connection ended within a message")
    try:
        if opcode == OP_MSG:
            return _message(request, payload)
        if opcode == OP_QUERY:
            return _query(request, payload)
    except (struct.error, bson.errors.InvalidBSON, IndexError, ValueError) as error:
        raise ProtocolError(f"A message that cannot be read: {error}") from error
    raise ProtocolError(f"Messages of kind {opcode} are not understood")


def reply(message: Message, answer: Document) -> bytes:
    """The answer to a message."""
    document = bson.encode(answer)
    if message.opcode == OP_QUERY:
        payload = struct.pack("<iqii", 8, 0, 0, 1) + document
        opcode = OP_REPLY
    else:
        payload = struct.pack("<IB", 0, _BODY) + document
        opcode = OP_MSG
    return _HEADER.pack(_HEADER.size + len(payload), 0, message.request, opcode) + payload


def _message(request: int, payload: bytes) -> Message:
    (flags,) = struct.unpack_from("<I", payload)
    end = len(payload) - (4 if flags & _CHECKSUM else 0)
    position = 4
    body: dict[str, Any] = {}
    sequences: dict[str, list[RawBSONDocument]] = {}
    while position < end:
        kind = payload[position]
        (size,) = _INT.unpack_from(payload, position + 1)
        section = payload[position + 1 : position + 1 + size]
        if size < 5 or len(section) < size:
            raise ValueError("A section that does not end")
        if kind == _BODY:
            body = _arguments(section)
        elif kind == _SEQUENCE:
            name, documents = _sequence(section)
            sequences[name] = documents
        else:
            raise ValueError(f"A section of kind {kind}")
        position += 1 + size
    return Message(request, OP_MSG, {**body, **sequences}, not flags & _MORE_TO_COME)


def _sequence(section: bytes) -> tuple[str, list[RawBSONDocument]]:
    name_end = section.index(b"\0", 4)
    documents = []
    position = name_end + 1
    while position < len(section):
        (size,) = _INT.unpack_from(section, position)
        documents.append(RawBSONDocument(section[position : position + size], _RAW))
        position += size
    return section[4:name_end].decode(), documents


def _query(request: int, payload: bytes) -> Message:
    name_end = payload.index(b"\0", 4)
    namespace = payload[4:name_end].decode()
    if not namespace.endswith(".$cmd"):
        raise ValueError("OP_QUERY is for commands only")
    arguments = _arguments(payload[name_end + 1 + 8 :])
    database = namespace.removesuffix(".$cmd")
    return Message(request, OP_QUERY, {**_unwrapped(arguments), "$db": database})


def _unwrapped(arguments: dict[str, Any]) -> dict[str, Any]:
    query = arguments.get("$query")
    return dict(query) if isinstance(query, RawBSONDocument) else arguments


def _arguments(document: bytes) -> dict[str, Any]:
    (size,) = _INT.unpack_from(document)
    return dict(RawBSONDocument(document[:size], _RAW))
