"""What every test with MongoDB shares: stages give back their connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streams.serving.mongo.mongo import MongoSink


@pytest.fixture(autouse=True)
def sinks_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what stages in memory have opened: elsewhere the end of their process does it."""
    opened: list[MongoSink] = []
    begin = MongoSink.__init__

    def noted(sink: MongoSink, *args: Any, **options: Any) -> None:
        begin(sink, *args, **options)
        opened.append(sink)

    monkeypatch.setattr(MongoSink, "__init__", noted)
    yield
    for sink in opened:
        sink.close()
