"""`podstream recommend`: a listener's list as MongoDB serves it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from topology.settings import Settings

PARTS = ("als", "content", "trending")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(recommend)


def recommend(
    user: Annotated[str, typer.Argument(help="A listener's user_id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as JSON.")] = False,
) -> None:
    """Show a listener's recommendations, best first, with scores, their parts and reasons."""
    from pymongo.errors import PyMongoError
    from rich.console import Console

    from topology.settings import get_settings

    try:
        document = find_list(get_settings(), user)
    except PyMongoError as error:
        typer.echo(f"MongoDB does not answer ({error}). `podstream up` starts it.", err=True)
        raise typer.Exit(1) from error
    if document is None:
        typer.echo(
            f"Nothing is known of listener {user!r}: a list appears with the first event.", err=True
        )
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(document, default=_as_text, ensure_ascii=False, indent=2))
        return
    Console().print(table_of(document))


def find_list(settings: Settings, user: str) -> dict[str, Any] | None:
    """The document of a listener in `final_recommendations`; None if there is none."""
    from pymongo import MongoClient

    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=5000, tz_aware=True
    )
    with client:
        return client[settings.mongodb_database]["final_recommendations"].find_one({"_id": user})


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
        numbers = (item["score"], *(item["parts"][name] for name in PARTS))
        # titles come from feeds: shown as they are, never as markup
        table.add_row(
            str(number),
            Text(item["title"]),
            Text(item["show"]),
            *(f"{value:.3f}" for value in numbers),
            Text(item["reason"]),
        )
    return table


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
