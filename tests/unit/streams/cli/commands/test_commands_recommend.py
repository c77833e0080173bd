"""`podstream recommend`: what it prints, and what it says without a list."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from streams.cli.commands import recommend as command
from streams.cli.main import build_app

DOCUMENT = {
    "_id": "ann",
    "items": [
        {
            "episode_id": "pi:1",
            "title": "Bees [bold]and[/bold] us",
            "show": "Nature",
            "score": 0.8,
            "parts": {"als": 0.9, "content": 0.7, "trending": 0.0},
            "reason": "People who listen like you",
        }
    ],
    "generation": "20260110T000000Z",
    "updated_at": datetime(2026, 1, 10, tzinfo=UTC),
    "caused_by": "event-1",
}


def test_the_table_shows_titles_as_they_are_with_all_parts() -> None:
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as captured:
        console.print(command.table_of(DOCUMENT))
    text = captured.get()
    for expected in ("Bees [bold]and[/bold] us", "0.800", "0.900", "0.700", "0.000", "20260110T"):
        assert expected in text


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_list", lambda _, user: {"ann": DOCUMENT}.get(user))


def test_json_is_the_document(served: Any) -> None:
    result = CliRunner().invoke(build_app(), ["recommend", "ann", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {**DOCUMENT, "updated_at": "2026-01-10T00:00:00+00:00"}


def test_an_unknown_listener_gets_a_sentence(served: Any) -> None:
    result = CliRunner().invoke(build_app(), ["recommend", "nobody"])
    assert result.exit_code == 1
    assert "Nothing is known of listener 'nobody'" in result.stderr
