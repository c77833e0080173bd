"""Caches and words of the dashboard's shell."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dashboard import sources
from topology.settings import get_settings

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Clock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_quick_answers_are_kept_for_a_second_and_dear_ones_longer() -> None:
    clock = Clock()
    cache = sources.PacedCache(min_age_s=1.0, share=0.1, clock=clock)
    asked = []

    def ask(seconds: float) -> int:
        asked.append(seconds)
        clock.now += seconds
        return len(asked)

    assert cache.get("quick", lambda: ask(0.01)) == 1
    clock.now += 0.9
    assert cache.get("quick", lambda: ask(0.01)) == 1
    clock.now += 0.2
    assert cache.get("quick", lambda: ask(0.01)) == 2
    assert cache.get("dear", lambda: ask(0.5)) == 3
    clock.now += 4.9
    assert cache.get("dear", lambda: ask(0.5)) == 3
    clock.now += 0.2
    assert cache.get("dear", lambda: ask(0.5)) == 4


def test_whoever_asks_meanwhile_waits_for_the_same_answer() -> None:
    cache = sources.PacedCache(min_age_s=60)
    asked: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def ask() -> str:
        asked.append("ticks")
        begun.set()
        assert go_on.wait(30)
        return "answer"

    with ThreadPoolExecutor(20) as sessions:
        answers = [sessions.submit(cache.get, "question", ask) for _ in range(20)]
        assert begun.wait(30)
        # Nobody else's question waits for it.
        assert cache.get("another", lambda: "at once") == "at once"
        go_on.set()
        assert {answer.result(30) for answer in answers} == {"answer"}
    assert asked == ["ticks"]


def test_answers_that_are_over_are_let_go() -> None:
    clock = Clock()
    cache = sources.PacedCache(min_age_s=1.0, clock=clock)
    answers = []
    for number in range(100):
        answers.append(weakref.ref(cache.get(number, Clock)))
        clock.now += 0.5
    assert sum(answer() is not None for answer in answers) <= 3
    cache.get("long", lambda: "kept", at_least_s=10)
    clock.now += 9
    assert cache.get("long", lambda: "new") == "kept"


def test_an_error_is_not_kept() -> None:
    cache = sources.PacedCache(clock=Clock())

    def fail() -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        cache.get("question", fail)
    assert cache.get("question", lambda: "back") == "back"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0.0 s"),
        (0.84, "0.8 s"),
        (12, "12 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
        (28 * 365 * 86_400, "10,220 d"),
    ],
)
def test_ago(seconds: float, words: str) -> None:
    assert sources.ago(NOON - timedelta(seconds=seconds), NOON) == words
    assert sources.ago(None, NOON) == "n/a"


def test_address_says_no_password(podstream_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://me:secret@10.0.0.1:27017,10.0.0.2:27018/x")
    get_settings.cache_clear()
    assert sources.mongo_address() == "10.0.0.1:27017, 10.0.0.2:27018"
