"""`podstream dlq list|show|redrive`: what could not be used, why, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from streams.kafka.letters import Letter, Range
    from streams.kafka.message import Message
    from streams.operations.redrive import Plan
    from topology.model import Topic

PREVIEW_BYTES = 200
REFUSALS_SHOWN = 10

LettersOf = Annotated[str, typer.Argument(help="The source topic or its `.dlq`.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Dead letters: records that no stage could use.", no_args_is_help=True)
    group.command("list")(list_topics)
    group.command("show")(show)
    group.command("redrive")(redrive)
    app.add_typer(group, name="dlq")


def list_topics(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Each dead-letter topic: distinct records, how many wait, were redriven, the newest reason."""
    from rich.console import Console

    from streams.cli.log_view import LogView
    from streams.kafka.dead_letters import Progress, read_letters
    from streams.operations.redrive import is_redrivable
    from topology.graph import get_graph
    from topology.settings import get_settings

    sources, settings = _sources(), get_settings()
    servers = settings.kafka_bootstrap_servers
    with _sentences():
        # Most are empty, and to find that out one by one takes half a second each.
        held = [one.topic for one in LogView(servers, get_graph()).dead_letters() if one.count]
        letters = read_letters(servers, held)
        done = Progress(settings).read()
    rows = [
        summary(name, letters.get(name, []), done.get(name, []), redrivable=is_redrivable(source))
        for name, source in sources.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    Console().print(letters_table(rows))


def show(
    topic: LettersOf,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest last.")] = 10,
) -> None:
    """The newest dead letters of a topic: where from, why, key and the first bytes."""
    from streams.kafka.dead_letters import read_letters, read_messages
    from topology.settings import get_settings

    name, servers = _dead_letter_topic(topic), get_settings().kafka_bootstrap_servers
    with _sentences():
        newest = [one.offsets[-1] for one in read_letters(servers, [name])[name][-limit:]]
        messages = read_messages(servers, name, newest)
    for offset in newest:
        if offset in messages:
            typer.echo(json.dumps(describe(messages[offset]), ensure_ascii=False, indent=2))


def redrive(
    topic: LettersOf,
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many at most: those that died first.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only those whose reason has a match.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
) -> None:
    """Send dead letters back to the topic they came from, once what they died of is mended.

    Each goes as it came, to the partition it was in, with one more header: how often it was
    redriven. One that was redriven is not sent again; if it dies once more, it is a new letter. In
    compacted topics a letter stays where it is once a newer record of its key has replaced it.

    A kill in the middle may make the next run send up to 200 letters a second time: stages tell
    such repeats by event_id or key, as after any crash. Ends with 1 if a letter was not taken.
    """
    from streams.operations.redrive import Redriver
    from topology.settings import get_settings

    dead = _dead_letter_topic(topic)
    source = _sources()[dead]
    try:
        pattern = None if where is None else re.compile(where)
    except re.error as error:
        raise typer.BadParameter(f"--where is no regular expression: {error}") from None
    with _sentences():
        redriver = Redriver(get_settings(), source)
        if dry_run:
            plan = redriver.plan(pattern, limit)
            for letter in plan.letters:
                typer.echo(sentence(letter, dead))
            _echo_result(plan, f"would redrive {len(plan.letters)} to {source.name}")
            return
        plan, result = redriver.run(pattern, limit)
    for letter, why in result.refused[:REFUSALS_SHOWN]:
        typer.echo(f"refused: {sentence(letter, dead)}: {why}", err=True)
    _echo_result(plan, f"redriven {len(result.sent)} of {len(plan.letters)} to {source.name}")
    if result.refused:
        typer.echo(f"{len(result.refused)} refused by the broker, and still wait", err=True)
        raise typer.Exit(1)


def _dead_letter_topic(topic: str) -> str:
    name, known = topic if topic.endswith(".dlq") else f"{topic}.dlq", _sources()
    if name not in known:
        raise typer.BadParameter(f"there is no {name}; there are {', '.join(known)}")
    return name


def _sources() -> dict[str, Topic]:
    """Dead-letter topic -> the topic that its letters come from."""
    from topology.graph import dead_letter_name, get_graph

    topics = get_graph().topics
    found = {dead_letter_name(name): topic for name, topic in topics.items()}
    return {name: found[name] for name in sorted(found.keys() & topics.keys())}


@contextmanager
def _sentences() -> Iterator[None]:
    """What an operator can mend ends the command with a sentence instead of a traceback."""
    from confluent_kafka import KafkaException

    from streams.operations.redrive import RedriveError

    try:
        yield
    except (RedriveError, KeyError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    except KafkaException as error:
        typer.echo(f"The broker does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from None


def _echo_result(plan: Plan, headline: str) -> None:
    """One line a fact: what was done, what was not and why."""
    typer.echo(headline)
    again = sum(letter.redrives > 0 for letter in plan.letters)
    for number, fact in (
        (again, "of them had been redriven before and died again"),
        (len(plan.replaced), "not sent: a newer record of their key has replaced them"),
        (plan.left, "not asked for, and still wait"),
    ):
        if number:
            typer.echo(f"{number:,} {fact}")


def summary(
    topic: str, letters: Sequence[Letter], done: Sequence[Range], *, redrivable: bool
) -> dict[str, Any]:
    """A line of `list`; ``letters`` are distinct, the newest last, ``done`` those settled."""
    from streams.kafka.letters import waiting

    left = waiting(letters, done)
    return {
        "topic": topic,
        "count": len(letters),
        "waiting": len(left) if redrivable else None,
        "redriven": len(letters) - len(left),
        "died_again": sum(letter.redrives > 0 for letter in left),
        "newest_reason": letters[-1].reason if letters else None,
    }


def letters_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The lines of `list` for people; topics are not cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("topic", no_wrap=True)
    numbers = ("count", "waiting", "redriven")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("newest reason")
    for row in rows:
        cells = ["" if row[name] is None else f"{row[name]:,}" for name in numbers]
        reason = shorten(printable(row["newest_reason"] or ""), PREVIEW_BYTES, placeholder=" …")
        table.add_row(row["topic"], *cells, Text(reason, overflow="fold"))
    return table


def sentence(letter: Letter, dead: str) -> str:
    """Where a letter lies, where it comes from, its key and size, and why it died: one line."""
    source = "" if letter.source is None else " from [{}]@{}".format(*letter.source)
    before = f", redriven {letter.redrives} times before" if letter.redrives else ""
    return (
        f"{dead}@{letter.offsets[0]}{source}, key {preview(letter.key)}, {letter.size:,} bytes"
        f"{before}: {printable(letter.reason) or 'no reason given'}"
    )


def describe(message: Message) -> dict[str, Any]:
    """A dead letter as JSON data; bytes as text where they are UTF-8, as hex elsewhere."""
    from streams.kafka.letters import error_of, original_headers

    return {
        "error": error_of(message.headers),
        "at": f"{message.topic}[{message.partition}]@{message.offset}",
        "key": preview(message.key),
        "headers": {name: preview(value) for name, value in original_headers(message.headers)},
        "bytes": len(message.value or b""),
        "value": preview(message.value),
    }


def printable(text: str) -> str:
    """Text of strangers on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def preview(value: bytes | None) -> str | None:
    """The first bytes: as text if they are printable UTF-8, else `0x…`."""
    if value is None:
        return None
    cut, more = value[:PREVIEW_BYTES], "…" if len(value) > PREVIEW_BYTES else ""
    try:
        text = cut.decode("utf-8", "strict" if not more else "ignore")
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and (text or not cut) and len(text.encode()) >= len(cut) - 3:
        return text + more
    return "0x" + cut.hex() + more
