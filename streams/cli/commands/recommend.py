"""`podstream recommend` and `podstream similar`: lists as MongoDB serves them, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pymongo.database import Database
    from rich.table import Table

    from streams.recommendation.explaining import Explanation
    from topology.settings import Settings

PARTS = ("als", "content", "trending", "ranked")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(recommend)
    app.command()(similar)


def recommend(
    user: Annotated[str, typer.Argument(help="A listener's user_id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as JSON.")] = False,
    why: Annotated[
        bool,
        typer.Option("--explain", help="Make the list anew, and take every score apart."),
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=500, help="Places explained.")] = 20,
) -> None:
    """Show a listener's recommendations, best first, with scores, their parts and reasons.

    With --explain the list is made now, by the functions that make the served one, of what the log
    holds; each signal is shown with its weight and with what it adds to the score.
    """
    if why:
        _explain(user, count, as_json)
        return
    found = _found(
        find_list,
        user,
        f"Nothing is known of listener {user!r}: a list appears with the first event.",
    )
    _show(found, table_of, as_json)


def similar(
    episode: Annotated[str, typer.Argument(help="An episode_id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the episodes in which the same things are talked about, nearest first."""
    found = _found(
        find_similar,
        episode,
        f"Nothing is known to be like episode {episode!r}: it has no transcript, or is not "
        "embedded yet.",
    )
    _show(found, similar_table, as_json)


def _found(
    find: Callable[[Settings, str], dict[str, Any] | None], name: str, missing: str
) -> dict[str, Any]:
    """What MongoDB has by this name; the command ends with a sentence where that is nothing."""
    from pymongo.errors import PyMongoError

    from topology.settings import get_settings

    try:
        found = find(get_settings(), name)
    except PyMongoError as error:
        typer.echo(f"MongoDB does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from error
    if found is None:
        typer.echo(missing, err=True)
        raise typer.Exit(1)
    return found


def _show(
    found: dict[str, Any], table_of_it: Callable[[dict[str, Any]], Table], as_json: bool
) -> None:
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(found, default=_as_text, ensure_ascii=False, indent=2))
        return
    Console().print(table_of_it(found))


def similar_table(found: dict[str, Any]) -> Table:
    """The answer of `find_similar` for the terminal."""
    from rich.table import Table
    from rich.text import Text

    title = found["title"] or found["episode_id"]
    table = Table(title=Text(f"Like {title}"), title_justify="left")
    for name in ("", "episode", "title", "show"):
        table.add_column(name)
    table.add_column("cosine", justify="right")
    for number, near in enumerate(found["neighbours"], 1):
        words = (Text(near[name]) for name in ("episode_id", "title", "show"))
        table.add_row(str(number), *words, f"{near['score']:.3f}")
    return table


def find_similar(settings: Settings, episode: str) -> dict[str, Any] | None:
    """The neighbours of an episode, with their titles and shows; None if it has none."""
    with _database(settings) as database:
        told = database["episode_neighbours"].find_one({"_id": episode})
        if told is None or not told["neighbours"]:
            return None
        ids = [episode, *(near["episode_id"] for near in told["neighbours"])]
        fields = {"title": 1, "show_title": 1}
        known = {d["_id"]: d for d in database["episodes"].find({"_id": {"$in": ids}}, fields)}

    def named(episode_id: str) -> dict[str, str]:
        document = known.get(episode_id, {})
        return {"title": document.get("title", ""), "show": document.get("show_title", "")}

    return {
        "episode_id": episode,
        **named(episode),
        "model": told["model"],
        "neighbours": [{**near, **named(near["episode_id"])} for near in told["neighbours"]],
    }


def _explain(user: str, count: int, as_json: bool) -> None:
    """Print a listener's list taken apart."""
    from dataclasses import asdict

    from confluent_kafka import KafkaException
    from rich.console import Console

    from streams.recommendation.explaining import explain_list
    from topology.settings import get_settings

    try:
        found = explain_list(get_settings(), user, count)
    except KafkaException as error:
        typer.echo(f"The broker does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from error
    if found is None:
        typer.echo(
            f"Nothing is known of listener {user!r}: that begins with the first event.", err=True
        )
        raise typer.Exit(1)
    if as_json:
        told = asdict(found)
        told["weights"] = found.weights._asdict()
        for item, shown in zip(found.items, told["items"], strict=True):
            shown |= {"parts": item.parts._asdict(), "earned": item.earned._asdict()}
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    Console().print(explained_table(found))


def explained_table(found: Explanation) -> Table:
    """A list taken apart, for the terminal: ``signal → what it adds`` in the column of each."""
    from rich.table import Table
    from rich.text import Text

    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in found.weights._asdict().items())
    why = f" Not ranked: {found.unranked_because}." if found.unranked_because else ""
    table = Table(
        title=Text(f"Would be recommended to {found.user_id} now"),
        caption=Text(
            f"By {found.basis or 'trending alone'}, for {found.episodes_touched} episodes that the "
            f"listener did something with. Weights: {weights}. In each column: the signal, from 0 "
            f"to 1, and what it adds to the score.{why}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("", justify="right")
    for name in ("title", "show"):
        table.add_column(name)
    for name in ("score", *PARTS):
        table.add_column(name, justify="right")
    table.add_column("reason")
    for number, item in enumerate(found.items, 1):
        pairs = zip(item.parts, item.earned, strict=True)
        table.add_row(
            str(number),
            Text(item.title),
            Text(item.show),
            f"{item.score:.3f}",
            *(f"{_number(part, 2)} → {earned:.3f}" for part, earned in pairs),
            Text(item.reason),
        )
    return table


def _number(value: float | None, decimals: int) -> str:
    return "n/a" if value is None else f"{value:.{decimals}f}"


def find_list(settings: Settings, user: str) -> dict[str, Any] | None:
    """The document of a listener in `final_recommendations`; None if there is none."""
    with _database(settings) as database:
        return database["final_recommendations"].find_one({"_id": user})


def table_of(document: dict[str, Any]) -> Table:
    """A list for the terminal."""
    from rich.table import Table
    from rich.text import Text

    generation = document["generation"] or "none yet"
    table = Table(
        title=Text(f"Recommended to {document['_id']}"),
        caption=Text(
            f"ALS generation {generation}; {_as_text(document['updated_at'])}; "
            f"caused by {document['caused_by']}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("", justify="right")
    table.add_column("title")
    table.add_column("show")
    for name in ("score", *PARTS):
        table.add_column(name, justify="right")
    table.add_column("reason")
    for number, item in enumerate(document["items"], 1):
        # a list from before there was a ranker has no such part
        numbers = (item["score"], *(item["parts"].get(name) for name in PARTS))
        # titles come from feeds: shown as they are, never as markup
        table.add_row(
            str(number),
            Text(item["title"]),
            Text(item["show"]),
            *(_number(value, 3) for value in numbers),
            Text(item["reason"]),
        )
    return table


@contextmanager
def _database(settings: Settings) -> Iterator[Database[dict[str, Any]]]:
    from pymongo import MongoClient

    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=5000, tz_aware=True
    )
    with client:
        yield client[settings.mongodb_database]


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
