"""Listener events in bulk: from the bytes of many messages to one frame of valid rows.

Decoding one Avro record at a time costs 3 µs. The payloads of many messages, joined behind a
container header, are an Avro data block, which polars decodes in a tenth of that. A block says
nothing about where one message ends, so the encoded length of every decoded row is compared with
the length of its message: a reader never uses fewer bytes for a row than its shortest encoding,
and never more in total than the block has, so equal lengths mean that each row came from exactly
its own message. Whatever does not pass is decoded record by record, which decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from operator import itemgetter
from typing import Any

import fastavro
import numpy as np
import polars as pl

from schemas import columnar, files
from schemas.codec import HEADER_SIZE, BadRecordError, RecordCodec, Registry, unframe
from schemas.units import DAY_MS

EARLIEST_MS = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""No listener did anything before: a clock that says so is wrong."""

LONGEST_MS = DAY_MS
"""Most audio that one event can account for, and the last place in an episode."""

LONGEST_STRING = 1024
"""Bytes of the longest string in an event."""

HIGHEST_RANK = 2**31 - 1

SMALLEST_BLOCK = 100
"""Records that take as long to decode one by one as a block takes at least."""

_SCHEMA = "user_event"
_SYNC = bytes(range(16))
_FIRST_BYTES: Any = itemgetter(slice(HEADER_SIZE))
_FRAME = "_frame_header"
_NULL_BRANCH, _VALUE_BRANCH = 0, 2  # zigzag of 0 and 1
_WIRE = pl.Schema(
    {
        name: {pl.Datetime: pl.Int64(), pl.Int32: pl.Int64()}.get(type(dtype), dtype)
        for name, dtype in columnar.columns(_SCHEMA).items()
        if name not in columnar.SOURCE_COLUMNS
    }
)
"""An event's columns as they are decoded: times in milliseconds, integers in 64 bits."""

_STRINGS = [name for name, dtype in _WIRE.items() if dtype == pl.String]


class BlockError(ValueError):
    """These payloads cannot be decoded as one block."""


class EventDecoder:
    """Decodes the messages of the topic of events, many at a time."""

    def __init__(self, topic: str, registry: Registry):
        self._codec = RecordCodec(topic, _SCHEMA, registry)
        self._registry = registry
        self._blocks: dict[int, BlockDecoder | None] = {}

    def decode(
        self, values: Sequence[bytes | None]
    ) -> tuple[pl.DataFrame, dict[int, BadRecordError]]:
        """Rows of the messages that decode, and why the others do not, by place in ``values``.

        The frame has the column ``row`` (place in ``values``, ascending) before an event's
        columns, with `occurred_at` in milliseconds.
        """
        bad: dict[int, BadRecordError] = {}
        frames = []
        for head, places in _by_frame_header(values).items():
            group = values if len(places) == len(values) else [values[p] for p in places]
            try:
                schema_id, _ = unframe(head)
                if len(group) < SMALLEST_BLOCK:
                    self._registry.schema(schema_id)
                    raise BlockError("not worth a block")
                frame = self._block(schema_id).decode(group)
            except BlockError:
                frame, bad_ones = self._decode_each(group)
                bad.update({places[number]: error for number, error in bad_ones.items()})
                places = [place for number, place in enumerate(places) if number not in bad_ones]
            except BadRecordError as error:
                bad.update(dict.fromkeys(places, error))
                continue
            frames.append(frame.insert_column(0, pl.Series("row", places, pl.UInt32)))
        if not frames:
            return pl.DataFrame(schema={"row": pl.UInt32, **_WIRE}), bad
        return (frames[0] if len(frames) == 1 else pl.concat(frames).sort("row")), bad

    def _block(self, schema_id: int) -> BlockDecoder:
        if schema_id not in self._blocks:
            try:
                decoder = BlockDecoder(self._registry.schema(schema_id))
            except BlockError:
                decoder = None
            self._blocks[schema_id] = decoder
        if (known := self._blocks[schema_id]) is None:
            raise BlockError(f"schema {schema_id} is decoded record by record")
        return known

    def _decode_each(
        self, values: Sequence[bytes | None]
    ) -> tuple[pl.DataFrame, dict[int, BadRecordError]]:
        good, bad = [], {}
        for number, value in enumerate(values):
            try:
                good.append(self._codec.decode(value))
            except BadRecordError as error:
                bad[number] = error
        times = columnar.columns(_SCHEMA)["occurred_at"]
        frame = pl.DataFrame(good, schema={**_WIRE, "occurred_at": times})
        return frame.cast({"occurred_at": pl.Int64}), bad


def _by_frame_header(values: Sequence[bytes | None]) -> dict[bytes | None, Sequence[int]]:
    if all(values) and len(set(map(_FIRST_BYTES, values))) == 1:
        return {_FIRST_BYTES(values[0]): range(len(values))}
    heads = [value if value is None else value[:HEADER_SIZE] for value in values]
    groups: dict[bytes | None, list[int]] = {}
    for place, head in enumerate(heads):
        groups.setdefault(head, []).append(place)
    return {**groups}


class BlockDecoder:
    """Decodes the framed messages of one writer's schema as one Avro block.

    Raises BlockError if the schema is not flat, or cannot be read as ours.
    """

    def __init__(self, writer: Any):
        fields = [(field["name"], _plain(field["type"])) for field in writer["fields"]]
        # Each message brings its frame header along, as a field before the others.
        framed = [(_FRAME, {"type": "fixed", "name": _FRAME, "size": HEADER_SIZE}), *fields]
        schema = {
            "type": "record",
            "name": "row",
            "fields": [{"name": name, "type": avro} for name, avro in framed],
        }
        buffer = BytesIO()
        fastavro.writer(buffer, schema, [], sync_marker=_SYNC)
        self._header = buffer.getvalue()
        self._fields, self._numbers = fields, _numbers(fields)
        nullable = [name for name, avro in fields if isinstance(avro, list)]
        self._present = [pl.col(name).is_not_null().cast(pl.Int64) for name in nullable]
        self._columns = _as_read({field["name"]: field["type"] for field in writer["fields"]})

    def decode(self, values: Sequence[bytes | None]) -> pl.DataFrame:
        """One row for each message; BlockError unless all of them decode.

        All messages have the same frame header, that of the schema.
        """
        messages = [value for value in values if value is not None]
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        start = self._header + _varint(len(messages)) + _varint(int(lengths.sum()))
        file = b"".join((start, *messages, _SYNC))
        try:
            raw = pl.read_avro(BytesIO(file))
            frame = raw.select_seq(self._columns)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise BlockError(str(error)) from error
        self._compare(raw, file, len(start) + np.cumsum(lengths), lengths)
        if frame["kind"].null_count():
            raise BlockError("an event has a kind that is not ours")
        return frame

    def _compare(
        self, raw: pl.DataFrame, file: bytes, ends: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Raise BlockError unless every row is what its own message says, and all of it.

        ``ends`` is where in ``file`` each message ends.
        """
        place = ends - lengths + HEADER_SIZE
        begins = []
        numbers = raw.select_seq(self._numbers)
        present = raw.select_seq(self._present)
        for name, avro in self._fields:
            number = numbers[name].to_numpy()
            sizes = _shortest(number)
            if "string" in avro:
                sizes += number
            if isinstance(avro, list):
                begins.append(place)
                sizes *= present[name].to_numpy()
                sizes += 1
            place = place + sizes
        if not np.array_equal(place, ends):
            raise BlockError("rows and messages do not coincide")
        if not begins:
            return
        # polars takes any branch of a union that is not the value's for the null.
        branches = np.frombuffer(file, np.uint8)[np.stack(begins, axis=1)]
        if np.any((branches != _NULL_BRANCH) & (branches != _VALUE_BRANCH)):
            raise BlockError("a union has no such branch")


def _plain(avro: Any) -> Any:
    """A field's type without names and meanings; BlockError for what a flat block cannot hold.

    On the wire an enum is the number of its symbol and a time the number of its milliseconds.
    """
    if isinstance(avro, list):
        if len(avro) != 2 or avro[0] != "null":
            raise BlockError(f"union {avro} is not flat")
        return ["null", _plain(avro[1])]
    name = avro["type"] if isinstance(avro, dict) else avro
    if name == "enum":
        return "int"
    if name not in ("string", "int", "long"):
        raise BlockError(f"type {name} is not decoded in blocks")
    return name


def _varint(number: int) -> bytes:
    rest, encoded = number << 1, bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _numbers(fields: Sequence[tuple[str, Any]]) -> list[pl.Expr]:
    """Of each field the number that its encoding begins with: a string's is its length."""
    numbers = []
    for name, avro in fields:
        column = pl.col(name)
        if "string" in avro:
            column = column.str.len_bytes()
        numbers.append(column.cast(pl.Int64).fill_null(0))
    return numbers


def _shortest(numbers: np.ndarray) -> np.ndarray:
    """Bytes of the shortest encoding of each number: zigzag, seven bits a byte."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    sizes = np.ones(len(numbers), np.int64)
    for bits in range(7, int(zigzag.max(initial=0)).bit_length(), 7):
        sizes += zigzag >= np.uint64(1 << bits)
    return sizes


def _as_read(written: dict[str, Any]) -> list[pl.Expr]:
    """The columns of our own version of the schema, out of those of the writer's version."""
    columns = []
    for field in files.load(_SCHEMA)["fields"]:
        name, dtype = field["name"], _WIRE[field["name"]]
        if name not in written:
            if "default" not in field:
                raise BlockError(f"the writer's schema has no {name}")
            column = pl.lit(field["default"], dtype)
        elif isinstance(dtype, pl.Enum):
            column = _named(pl.col(name), written[name]["symbols"], dtype)
        elif ("string" in _plain(written[name])) != (dtype == pl.String):
            raise BlockError(f"{name} has another type in the writer's schema")
        else:
            column = pl.col(name).cast(dtype)
        columns.append(column.alias(name))
    return columns


def _named(column: pl.Expr, symbols: list[str], dtype: pl.Enum) -> pl.Expr:
    """The symbols of a writer's symbol numbers; null where we have no such symbol."""
    ours = {n: symbol for n, symbol in enumerate(symbols) if symbol in dtype.categories}
    return column.replace_strict(ours, default=None, return_dtype=dtype)


IDS = ("event_id", "user_id", "episode_id")
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f]"
"""No id has any of them."""

_CONTROL = re.compile(CONTROL_CHARACTERS)


def problem_of_id(text: str) -> str | None:
    """What keeps a text from being an id of an event, as the rules below would say; or None."""
    if _CONTROL.search(text):
        return "has control characters"
    if len(text.encode()) > LONGEST_STRING:
        return f"has over {LONGEST_STRING} bytes"
    return None


_RULES: tuple[tuple[str, pl.Expr], ...] = (
    *((f"{name} is empty", pl.col(name) == "") for name in IDS),
    *(
        (
            f"{name} has over {LONGEST_STRING} bytes",
            pl.col(name).str.len_bytes() > LONGEST_STRING,
        )
        for name in _STRINGS
    ),
    *(
        (f"{name} is not between 0 and {LONGEST_MS}", ~pl.col(name).is_between(0, LONGEST_MS))
        for name in ("heard_ms", "position_ms", "duration_ms")
    ),
    ("occurred_at is before 1990", pl.col("occurred_at") < EARLIEST_MS),
    (
        "occurred_at is more than a day after the record's log time",
        pl.col("occurred_at") > pl.col("log_ms") + DAY_MS,
    ),
    (f"rank is not between 1 and {HIGHEST_RANK}", ~pl.col("rank").is_between(1, HIGHEST_RANK)),
)


_CONTROLS = tuple(
    (f"{name} has control characters", pl.col(name).str.contains(CONTROL_CHARACTERS))
    for name in IDS
)
"""Ten times dearer than all the others, and so asked only where a byte says that it may be."""

_IMPOSSIBLE = pl.any_horizontal(rule.fill_null(False) for _, rule in _RULES)
_IMPOSSIBLE_WITH_CONTROLS = pl.any_horizontal(
    _IMPOSSIBLE, *(rule.fill_null(False) for _, rule in _CONTROLS)
)


def check_events(events: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, BadRecordError]]:
    """The rows whose values are possible, and why the others are refused, by `row`.

    ``events`` is what `EventDecoder` gives, with the column `log_ms`: the log's own time of each
    record, so that the verdict is the same at every replay.
    """
    rules, impossible = _RULES, _IMPOSSIBLE
    if any(_may_have_controls(events[name]) for name in IDS):
        rules, impossible = (*_RULES, *_CONTROLS), _IMPOSSIBLE_WITH_CONTROLS
    mask = events.select_seq(refused=impossible)["refused"]
    if not mask.any():
        return events, {}
    reason = pl.coalesce(pl.when(rule.fill_null(False)).then(pl.lit(text)) for text, rule in rules)
    rows = events.filter(mask).select("row", reason.alias("reason")).rows()
    return events.filter(~mask), {row: BadRecordError(text) for row, text in rows}


def _may_have_controls(texts: pl.Series) -> bool:
    text = texts.to_arrow().buffers()[2]
    if text is None or not text.size:
        return False
    read = np.frombuffer(text, np.uint8)
    return bool(read.min() < ord(" ") or (read == 0x7F).any())
