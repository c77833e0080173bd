"""`podstream dlq list|show`: what could not be used, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.context import Message

PREVIEW_BYTES = 200


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Dead letters: records that no stage could use.", no_args_is_help=True)
    group.command("list")(list_topics)
    group.command("show")(show)
    app.add_typer(group, name="dlq")


def list_topics(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Each dead-letter topic with its number of distinct records and the newest reason."""
    from rich.console import Console
    from rich.table import Table

    letters = {topic: distinct(messages) for topic, messages in _read(_topics()).items()}
    rows: list[dict[str, Any]] = [
        {
            "topic": topic,
            "count": len(messages),
            "newest_reason": error_of(messages[-1]).get("exception.message") if messages else None,
        }
        for topic, messages in sorted(letters.items())
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("topic", "count", "newest reason")
    for row in rows:
        table.add_row(row["topic"], str(row["count"]), row["newest_reason"] or "")
    Console().print(table)


def show(
    topic: Annotated[str, typer.Argument(help="The source topic or its `.dlq`.")],
    limit: Annotated[int, typer.Option(min=1, help="How many, newest last.")] = 10,
) -> None:
    """The newest dead letters of a topic: where from, why, key and the first bytes."""
    name = topic if topic.endswith(".dlq") else f"{topic}.dlq"
    if name not in _topics():
        raise typer.BadParameter(f"there is no {name}; there are {', '.join(_topics())}")
    messages = distinct(_read([name])[name])
    for message in messages[-limit:]:
        typer.echo(json.dumps(describe(message), ensure_ascii=False, indent=2))


def _topics() -> list[str]:
    from topology.graph import dead_letter_name, get_graph

    graph = get_graph()
    return sorted(name for name in map(dead_letter_name, graph.topics) if name in graph.topics)


def _read(topics: list[str]) -> dict[str, list[Message]]:
    from streams.kafka import TopicReader
    from topology.settings import get_settings

    found: dict[str, list[Message]] = {topic: [] for topic in topics}

    def keep(batch: list[Message]) -> None:
        for message in batch:
            found[message.topic].append(message)

    reader = TopicReader(get_settings().kafka_bootstrap_servers, topics)
    try:
        reader.read_to_end(keep)
    finally:
        reader.close()
    for messages in found.values():
        messages.sort(key=lambda message: (message.partition, message.offset))
    return found


def error_of(message: Message) -> dict[str, str]:
    """The headers that say where a dead letter came from and why it is here."""
    from streams.wire import ERROR_PREFIX

    return {
        name.removeprefix(ERROR_PREFIX): value.decode("utf-8", "replace")
        for name, value in message.headers
        if name.startswith(ERROR_PREFIX)
    }


def distinct(messages: list[Message]) -> list[Message]:
    """One letter for each source record, the newest: after a crash it may be sent again."""
    newest: dict[tuple[str | None, ...], Message] = {}
    for message in messages:
        error = error_of(message)
        place = tuple(error.get(name) for name in ("topic", "partition", "offset"))
        if None in place:  # not written by a stage: nothing to tell it from others by
            place = (message.topic, str(message.partition), f"@{message.offset}")
        newest.pop(place, None)
        newest[place] = message
    return list(newest.values())


def describe(message: Message) -> dict[str, Any]:
    """A dead letter as JSON data; bytes as text where they are UTF-8, as hex elsewhere."""
    from streams.wire import ERROR_PREFIX

    return {
        "error": error_of(message),
        "at": f"{message.topic}[{message.partition}]@{message.offset}",
        "key": preview(message.key),
        "headers": {
            name: preview(value)
            for name, value in message.headers
            if not name.startswith(ERROR_PREFIX)
        },
        "bytes": len(message.value or b""),
        "value": preview(message.value),
    }


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
