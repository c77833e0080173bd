"""`podstream inspect`: how input is read, without starting or storing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[
    str, typer.Argument(metavar="FILE|URL|-", help="A file, an http(s) address, or - for stdin.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SHOWN_LINES = 20
"""Episodes, segments, feeds or rows that are shown where nobody asked for JSON."""
_SHOWN_CHARACTERS = 100


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Show what would be stored of input, what was mended and what refused, and why. "
        "Nothing is started or stored. Ends with 1 if nothing could be stored.",
    )
    for command in (feed, transcript, opml, episodes, events):
        group.command()(command)
    app.add_typer(group, name="inspect")


def feed(
    source: Source,
    as_json: AsJson = False,
    url: Annotated[
        str, typer.Option(help="The address the feed is followed by, for ids and relative links.")
    ] = "",
) -> None:
    """An RSS or Atom feed: its show and its newest episodes."""
    from streams.operations import inspecting

    found = inspecting.feed(_checked(source), _settings(), url)
    _print(found, as_json, _feed_lines, stored=bool(found["episodes"]))


def transcript(
    source: Source,
    as_json: AsJson = False,
    mime: Annotated[
        str, typer.Option("--type", help="The type its feed lists it with, such as text/vtt.")
    ] = "",
    language: Annotated[str, typer.Option(help="The language its feed says it is in.")] = "",
) -> None:
    """A transcript in VTT, SRT, JSON, HTML or plain text."""
    from streams.operations import inspecting

    found = inspecting.transcript(_checked(source), _settings(), mime, language)
    _print(found, as_json, _transcript_lines, stored=found["status"] == "ok")


def opml(source: Source, as_json: AsJson = False) -> None:
    """An OPML file: the feeds that it lists."""
    from streams.operations import inspecting

    found = inspecting.opml(_checked(source), _settings())
    _print(found, as_json, _opml_lines, stored=bool(found["feeds"]))


def episodes(source: Source, as_json: AsJson = False) -> None:
    """A CSV, JSONL or Parquet file of episodes."""
    from streams.operations import inspecting

    found = inspecting.episodes(_checked(source), _settings())
    _print(found, as_json, _table_lines, stored=bool(found["stored"]))


def events(source: Source, as_json: AsJson = False) -> None:
    """A CSV, JSONL or Parquet file of events."""
    from streams.operations import inspecting

    found = inspecting.events(_checked(source), _settings())
    _print(found, as_json, _table_lines, stored=bool(found["stored"]))


def _checked(source: str) -> str:
    """The source, if there is one."""
    from streams.operations.inspecting import STANDARD_INPUT, is_address

    if source != STANDARD_INPUT and not is_address(source) and not Path(source).is_file():
        raise typer.BadParameter(f"{source!r} is neither a file nor an http(s) address nor -")
    return source


def _settings() -> Any:
    from topology.settings import get_settings

    return get_settings()


def _print(
    found: Mapping[str, Any],
    as_json: bool,
    lines: Callable[[Mapping[str, Any]], Iterator[str]],
    *,
    stored: bool,
) -> None:
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        for line in (*lines(found), *_remarks(found)):
            # Strangers wrote it: what a terminal would take for a command is shown as a blank.
            typer.echo("".join(c if c.isprintable() else " " for c in line))
    if not stored:
        raise typer.Exit(1)


def _remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What was refused and mended, and why."""
    refused = found.get("refused", ())
    for one in refused[:SHOWN_LINES]:
        what = one.get("what") or (f"line {one['line']}" if one.get("line") else "the file")
        yield f"refused: {what}: {one['why']}"
    yield from _more(len(refused), "refused")
    for note in found.get("notes", ()):
        yield f"note: {note}"


def _more(count: int, what: str) -> Iterator[str]:
    if count > SHOWN_LINES:
        yield f"… and {count - SHOWN_LINES:,} more {what}"


def _feed_lines(found: Mapping[str, Any]) -> Iterator[str]:
    show, listed = found["show"], found["episodes"]
    if not show:
        yield "Nothing of this would be stored."
        return
    about = (show["language"], ", ".join(show["categories"]), "explicit" * show["explicit"])
    yield f"Show {show['title']!r} {' · '.join(filter(None, about))}".rstrip()
    yield f"{len(listed):,} episodes would be stored"
    for episode in listed[:SHOWN_LINES]:
        place = [
            f"{name} {episode[name]}" for name in ("season", "number") if episode[name] is not None
        ]
        length = "" if episode["duration_s"] is None else f"{episode['duration_s']} s"
        links = f"{len(episode['transcripts'])} transcripts" if episode["transcripts"] else ""
        audio = episode["enclosure_url"] or "no audio"
        parts = (episode["type"], *place, length, links, audio)
        when = episode["published_at"] or "no date"
        yield f"  {when}  {_short(episode['title'])}  {' · '.join(filter(None, parts))}"
    yield from _more(len(listed), "episodes")


def _transcript_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if found["status"] != "ok":
        yield f"{found['status']}: {found['reason']}"
        return
    segments = found["segments"]
    language = found["language"] or "language unknown"
    yield f"{found['format']}, {language}, {len(segments):,} segments"
    for one in segments[:SHOWN_LINES]:
        ends = [_seconds(one[name]) for name in ("start_ms", "end_ms")]
        times = f"{ends[0]} to {ends[1]}  " if any(ends) else ""
        speaker = f"{one['speaker']}: " if one["speaker"] else ""
        yield f"  {times}{speaker}{_short(one['text'])}"
    yield from _more(len(segments), "segments")


def _opml_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{len(found['feeds']):,} feeds would be followed"
    for one in found["feeds"][:SHOWN_LINES]:
        yield f"  {one['url']}  {_short(one['title'])}".rstrip()
    yield from _more(len(found["feeds"]), "feeds")


def _table_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['stored']:,} of {found['rows']:,} rows would be stored"
    for record in found["records"][:SHOWN_LINES]:
        told = {name: value for name, value in record.items() if value not in (None, "", [], 0)}
        yield f"  {_short(json.dumps(told, ensure_ascii=False), 4 * _SHOWN_CHARACTERS)}"


def _seconds(ms: int | None) -> str:
    return "" if ms is None else f"{ms / 1000:.3f}"


def _short(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
