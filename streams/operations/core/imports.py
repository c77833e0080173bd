"""What importing makes of the rows of a file: valid records, and why the other rows are refused.

The columns are the public contract. An event: ``event_id`` (derived if missing), ``user_id``,
``episode_id``, ``kind``, ``occurred_at`` (`parse_time`), ``heard_ms``
and ``position_ms`` (whole milliseconds, 0 if missing), and optionally ``session_id``,
``surface``, ``rank``, ``arm``, ``user_agent``, ``generation``, ``duration_ms`` (of the episode, as
the player knew it). An episode: ``episode_id`` and ``title``, and optionally ``show_id``,
``show_title``, ``description``, ``categories``, ``language``, ``published_at`` (`parse_time`),
``duration_s``, ``explicit``, ``enclosure_url``, ``transcript_text``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from schemas import columnar
from streams.events.core.events import check_events, problem_of_id
from streams.ingest.core.dates import read_date
from streams.ingest.core.durations import duration_s
from streams.ingest.core.episodes import IMPORT, flag

Row = Mapping[str, Any]

EVENT_TIMES = ("occurred_at",)
EVENT_INTEGERS = {"heard_ms": 0, "position_ms": 0, "rank": None, "duration_ms": None}
EVENT_REQUIRED = ("user_id", "episode_id", "kind", "occurred_at")
EVENT_COLUMNS = tuple(
    name for name in columnar.columns("user_event") if name not in columnar.SOURCE_COLUMNS
)

EPISODE_REQUIRED = ("episode_id", "title")
EPISODE_TEXTS = (
    *EPISODE_REQUIRED,
    "show_id",
    "show_title",
    "description",
    "language",
    "enclosure_url",
    "transcript_text",
)
EPISODE_IDS = ("episode_id", "show_id")
EPISODE_COLUMNS = (*EPISODE_TEXTS, "categories", "published_at", "duration_s", "explicit")

_NO_EVENT = {**dict.fromkeys(EVENT_COLUMNS), **EVENT_INTEGERS}
IDENTITY = tuple(name for name in EVENT_COLUMNS if name not in ("event_id", "duration_ms"))
"""What tells an event without an id from others. Not the length of the episode: ids made before
events could tell it must stay the same."""
_encode_json = json.JSONEncoder(ensure_ascii=False).encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNIX_SECONDS = (631_152_000, 4_102_444_800)
"""1990 and 2100: a number of Unix time lies between them, in one of the `UNIX_UNITS`."""

UNIX_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Of a second: what a number of Unix time may count."""
_NUMBER = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,9})?(?:[eE]\+?[0-9]{1,2})?")
_UTC_BEHIND = re.compile(r"(.{10,40}?)\s{0,9}(?:UTC|GMT|UT)", re.I)
_MOST_SHOWN = 80


class RowError(ValueError):
    """A row that cannot be imported; the text says why."""


@dataclass
class Rows:
    """Rows of a file with the line (in Parquet, the row) that each begins at, counted from 1."""

    lines: list[int] = field(default_factory=list)
    rows: Sequence[Row] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)


def parse_time(value: Any) -> datetime:
    """A point in time from text, a datetime, a date or a number; UTC where no offset is given.

    Text is ISO 8601, also with `UTC` behind it, or a date as mail and feeds write it. A number is
    Unix time from 1990 to 2100 in seconds, or in thousandths, millionths or billionths of them:
    its size tells which. RowError if it is none of these.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        value = _moment(value)
    try:
        moment: datetime = (
            value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        )
    except OverflowError:
        raise RowError(f"{_shown(value)} is out of range") from None
    return moment


def _moment(value: Any) -> datetime:
    text = str(value).strip()
    if _NUMBER.fullmatch(text) and (moment := _unix_moment(Decimal(text))):
        return moment
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    with suppress(ValueError):
        if said := _UTC_BEHIND.fullmatch(text):
            moment = datetime.fromisoformat(said[1].replace(" +0000", "+00:00"))
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if seconds := read_date(text).seconds:
        return _EPOCH + timedelta(seconds=seconds)
    raise RowError(f"{_shown(value)} is no ISO 8601 time, nor any other that has one meaning only")


def _unix_moment(number: Decimal) -> datetime | None:
    """A moment of Unix time in the unit in which it lies between 1990 and 2100; None if in none."""
    first, end = UNIX_SECONDS
    for unit in UNIX_UNITS:
        if first <= number / unit < end:
            return _EPOCH + timedelta(microseconds=int(number * 1_000_000 / unit))
    return None


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970 of an aware datetime; what is finer is cut off."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def parse_integer(value: Any) -> int:
    """A whole number, also one that a spreadsheet wrote as ``3.0``. RowError if it is none."""
    if isinstance(value, bool):
        raise RowError(f"{value} is no whole number")
    try:
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                value = float(value)
        if value == int(value):
            return int(value)
    except (ValueError, TypeError, OverflowError):
        pass
    raise RowError(f"{_shown(value)} is no whole number")


def derived_event_id(event: Row) -> str:
    """The id of an event that has none: SHA-256 of its fields, so that a repeat is recognised."""
    return identity_hash([event[name] for name in IDENTITY])


def identity_hash(fields: Sequence[Any]) -> str:
    """The id of an event whose `IDENTITY` has these values, in its order."""
    return hashlib.sha256(_encode_json(fields).encode()).hexdigest()


def parse_event(row: Row) -> dict[str, Any]:
    """A `user_event`, times in milliseconds since 1970. RowError if the row is none.

    Whether its values are possible is for `check_events` to say.
    """
    event: dict[str, Any] = dict(_NO_EVENT)
    name = ""
    try:
        for name in EVENT_COLUMNS:
            value = row.get(name)
            if value is None or value == "" or _absent(value):
                continue
            if name in EVENT_INTEGERS:
                event[name] = parse_integer(value)
            elif name in EVENT_TIMES:
                event[name] = milliseconds(parse_time(value))
            else:
                event[name] = _text(value)
    except RowError as error:
        raise RowError(f"{name}: {error}") from None
    missing = [name for name in EVENT_REQUIRED if event[name] is None]
    if missing:
        raise RowError(f"{' and '.join(missing)} missing")
    if event["kind"] not in KINDS:
        raise RowError(f"kind: {_shown(event['kind'])} is none of {', '.join(sorted(KINDS))}")
    if event["event_id"] is None:
        event["event_id"] = derived_event_id(event)
    return event


def parse_events(read: Rows, now_ms: int) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Valid `user_event` records in the order of the rows, and (line, reason) of the others.

    ``now_ms`` is the time at which the rows enter the log: they cannot be from the future.
    """
    events, lines, refused = [], [], list(read.refused)
    for line, row in zip(read.lines, read.rows, strict=True):
        try:
            event = parse_event(row)
        except RowError as error:
            refused.append((line, str(error)))
            continue
        events.append(event)
        lines.append(line)
    impossible = _impossible(events, now_ms)
    if impossible:
        refused += [(lines[place], reason) for place, reason in impossible.items()]
        events = [event for place, event in enumerate(events) if place not in impossible]
    return events, sorted(refused)


def _impossible(events: Sequence[dict[str, Any]], now_ms: int) -> dict[int, str]:
    """Place -> reason, by the rules that hold for every event in the log."""
    declared = dict(columnar.columns("user_event"))
    schema = {
        name: pl.Int64() if name in (*EVENT_INTEGERS, *EVENT_TIMES) else declared[name]
        for name in EVENT_COLUMNS
    }
    outside = {
        place: f"{name} is out of range"
        for place, event in enumerate(events)
        for name in (*EVENT_INTEGERS, *EVENT_TIMES)
        if event[name] is not None and not -(2**63) <= event[name] < 2**63
    }
    fitting = [place for place in range(len(events)) if place not in outside]
    frame = pl.DataFrame([events[place] for place in fitting], schema=schema, orient="row")
    frame = frame.with_columns(
        pl.Series("row", fitting, pl.UInt32), pl.lit(now_ms, pl.Int64).alias("log_ms")
    )
    _, refused = check_events(frame)
    return outside | {place: str(error) for place, error in refused.items()}


KINDS = frozenset(columnar.columns("user_event")["kind"].categories)  # type: ignore[attr-defined]
"""The vocabulary of events."""


def parse_episode(row: Row) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """An `episode` and, where the row has a text, its `transcript`. RowError if it is none."""
    missing = [name for name in EPISODE_REQUIRED if _absent(row.get(name))]
    if missing:
        raise RowError(f"{' and '.join(missing)} missing")
    texts: dict[str, str] = {}
    place = ""
    try:
        for place in EPISODE_TEXTS:
            texts[place] = "" if _absent(row.get(place)) else _text(row[place])
            if place in EPISODE_IDS:
                _check_id(texts[place])
        place = "published_at"
        published = None if _absent(row.get(place)) else parse_time(row[place])
        place = "duration_s"
        duration = None if _absent(row.get(place)) else _duration(row[place])
        place = "explicit"
        explicit = _boolean(row.get(place))
        place = "categories"
        categories = parse_categories(row.get(place))
    except RowError as error:
        raise RowError(f"{place}: {error}") from None
    text = texts.pop("transcript_text")
    show_id = texts["show_id"] or _show_id(texts["show_title"], texts["episode_id"])
    episode = {
        **texts,
        "show_id": show_id,
        "categories": categories,
        "published_at": published,
        "duration_s": duration,
        "explicit": explicit,
        "source": IMPORT,
    }
    spoken = transcript(texts["episode_id"], text, texts["language"]) if text else None
    return episode, spoken


def _check_id(text: str) -> None:
    """RowError for an id that no event could name."""
    if (why := problem_of_id(text)) is not None:
        raise RowError(f"{_shown(text)} {why}")


def _show_id(title: str, episode_id: str) -> str:
    """The id of a show that a row gives none: by its title, else one for the episode alone."""
    if not title:
        return f"{IMPORT}:episode:{episode_id}"
    odd = title.startswith(("episode:", "show:"))
    return f"{IMPORT}:show:{title}" if odd else f"{IMPORT}:{title}"


def transcript(episode_id: str, text: str, language: str = "") -> dict[str, Any]:
    """A `transcript` of plain text."""
    return {
        "episode_id": episode_id,
        "status": "ok",
        "format": "text",
        "language": language,
        "text": text,
    }


def parse_categories(value: Any) -> list[str]:
    """Categories from a list, a JSON list, or text with ``|``, ``;`` or ``,`` between them."""
    if _absent(value):
        return []
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                raise RowError(f"{_shown(text)} is no JSON list") from None
        else:
            mark = next((mark for mark in "|;," if mark in text), ",")
            value = text.split(mark)
    if not isinstance(value, Iterable) or any(not isinstance(part, str) for part in value):
        raise RowError(f"{_shown(value)} is no list of names")
    return list(dict.fromkeys(part.strip() for part in value if part.strip()))


def _duration(value: Any) -> int:
    told = duration_s(value) if isinstance(value, str) else None
    seconds = parse_integer(value) if told is None else told
    if not 0 <= seconds < 2**31:
        raise RowError(f"{seconds} is no number of seconds")
    return seconds


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    said = False if _absent(value) else flag(str(value))
    if said is None:
        raise RowError(f"{_shown(value)} is neither true nor false")
    return said


def _absent(value: Any) -> bool:
    """Whether there is no value; tables of numbers have NaN for none."""
    if isinstance(value, float):
        return value != value
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any) -> str:
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (dict, list, bool, bytes)):
        raise RowError(f"{_shown(value)} is no text")
    text = str(value)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RowError(f"{_shown(text)} is no valid UTF-8")
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
