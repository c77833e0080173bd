"""The simulated listeners on records as the topics hold them, without a broker."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.demo.core.simulation import PLAYER_KINDS
from streams.demo.simulate_listeners import Listeners
from streams.runtime.in_memory import MemoryLog, MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    log = MemoryRuntime(build_graph(2), Settings(podstream_home=tmp_path)).log
    for number in range(40):
        episode = {
            "episode_id": f"e{number}",
            "title": "t",
            "show_id": "s",
            "show_title": "S",
            "categories": [f"c{number % 4}"],
            "duration_s": 600,
            "source": "x",
        }
        log.append("episode-metadata", episode, key=f"e{number}")
    return log


def crowd(log: MemoryLog, **options: Any) -> Listeners:
    listeners = Listeners(log.wire, count=5, concurrent=3, **options)
    listeners.apply(log.records("episode-metadata"))
    return listeners


def drawn(listeners: Listeners, number: int) -> dict[str, Any]:
    """The event that listeners do now; there always is one, once they know of episodes."""
    event = listeners.next_event(number)
    assert event is not None
    return event


def test_without_episodes_nothing_happens(log: MemoryLog) -> None:
    assert Listeners(log.wire).next_event(0) is None


def test_events_fit_the_schema_and_repeat_no_id_between_runs(log: MemoryLog) -> None:
    runs = [crowd(log, run=run) for run in (1, 2)]
    events = [drawn(listeners, n) for n in range(1000) for listeners in runs]
    for event in events:
        log.wire.encode("user-events", event)
    assert len({event["event_id"] for event in events}) == 2000
    assert not {e["session_id"] for e in events[::2]} & {e["session_id"] for e in events[1::2]}
    assert {e["surface"] for e in events} == {"trending", "search"}


def test_nobody_hears_what_was_withdrawn(log: MemoryLog) -> None:
    for number in range(35):
        log.append("episode-metadata", None, key=f"e{number}")
    listeners = crowd(log)
    assert {drawn(listeners, n)["episode_id"] for n in range(500)} <= {
        f"e{number}" for number in range(35, 40)
    }


def test_players_tell_how_long_the_episode_is(log: MemoryLog) -> None:
    listeners = crowd(log)
    for event in (drawn(listeners, n) for n in range(500)):
        played = event["kind"] in PLAYER_KINDS
        assert event["duration_ms"] == (600_000 if played else None)
        assert event["position_ms"] <= 600_000


def test_the_same_seed_and_run_do_the_same(log: MemoryLog) -> None:
    one, two = crowd(log, run=1), crowd(log, run=1)
    assert [drawn(one, n) for n in range(500)] == [drawn(two, n) for n in range(500)]


def test_listeners_are_shown_their_newest_list_and_garbage_changes_nothing(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    def recommend(*episodes: str) -> None:
        items = [
            {
                "episode_id": episode,
                "title": "t",
                "show": "S",
                "score": 1.0,
                "parts": {"als": 1.0, "content": 0.0, "trending": 0.0},
                "reason": "new",
            }
            for episode in episodes
        ]
        for number in range(1, 6):
            user = f"listener-{number:04d}"
            record = {
                "user_id": user,
                "generation": "g2",
                "updated_at": NOW,
                "caused_by": "",
                "source_partition": 0,
                "offset": 0,
                "items": items,
            }
            log.append("recommendations", record, key=user)

    recommend("e1", "e2")
    recommend("e3", "e4")
    log.append("trending-episodes", b"garbage", key="all|0")
    listeners = crowd(log)
    listeners.apply(log.records("recommendations"))
    listeners.apply(log.records("trending-episodes"))
    (line,) = caplog.messages
    assert line.startswith("simulate_listeners: trending-episodes[0]@0 is passed over: ")
    events = [drawn(listeners, n) for n in range(500)]
    shown = [e for e in events if e["kind"] == "impression"]
    assert {e["episode_id"] for e in shown} == {"e3", "e4"}
    assert {(e["surface"], e["generation"]) for e in shown} == {("recommendations", "g2")}
    assert listeners.truth.events == 500
    assert "from recommendations" in listeners.truth.line()


def test_new_listeners_are_shown_what_is_trending(log: MemoryLog) -> None:
    places = [{"episode_id": "e7", "score": 1.0, "plays": 3}]
    record = {"scope": "all", "source_partition": 0, "at": NOW, "episodes": places}
    log.append("trending-episodes", record, key="all|0")
    listeners = crowd(log)
    listeners.apply(log.records("trending-episodes"))
    events = [drawn(listeners, n) for n in range(300)]
    assert {e["episode_id"] for e in events if e["kind"] == "impression"} == {"e7"}
