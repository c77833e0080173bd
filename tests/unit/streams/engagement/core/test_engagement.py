"""The fold against the plain Python of tests/oracle, in whatever cut, through restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import columnar
from schemas.units import MINUTE_MS
from streams.engagement.core import episode_days, reach, rolling, windows
from streams.engagement.core.engagement import Engagement
from streams.events.core.event_rows import event_rows
from tests.oracle import tables
from tests.oracle.log import Row

K = TypeVar("K", bound=tuple[object, ...])

LATENESS = timedelta(minutes=15)
START = datetime(2026, 1, 1, 21, 30, tzinfo=UTC)
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
EPISODES: dict[str, dict[str, Any]] = {
    "pi:1": {"show_id": "pi:s1", "categories": ["News", "Arts"]},
    "pi:2": {"show_id": "pi:s1", "categories": ["Arts"]},
    "rss:ü": {"show_id": "rss:s2", "categories": []},
}

steps = st.tuples(
    # how far the log's clock moves on, and how far behind (or ahead of) it the event is dated
    st.sampled_from([0, 0, 1, 30, 70, 600, 1900, 40_000, 90_000]).map(
        lambda s: timedelta(seconds=s)
    ),
    st.sampled_from([0, 0, 5, 65, 400, 880, 905, 4000, -3600]).map(lambda s: timedelta(seconds=s)),
    st.sampled_from(["ada", "bob", "cy"]),
    st.sampled_from([*EPISODES, "pi:unknown"]),
    st.sampled_from(["impression", "click", "play", "progress", "complete", "like", "skip"]),
    st.sampled_from([0, 0, 20_000, 45_000, 600_000]),
    st.sampled_from([0, 30_000, 65_000, 700_000, 17_000_000]),
    st.sampled_from([None, 0, 100_000, 1_500_000]),
    st.sampled_from([None, None, None, "AppleCoreMedia/1.0", BOT]),
)


def a_play(step_s: int, behind_s: int = 0) -> tuple[Any, ...]:
    """One of the steps."""
    moved = (timedelta(seconds=step_s), timedelta(seconds=behind_s))
    return (*moved, "ada", "pi:1", "play", 0, 0, None, None)


logs = st.lists(steps, min_size=1, max_size=60)
cuts = st.lists(st.tuples(st.integers(1, 15), st.sampled_from(["", "", "changes", "snapshot"])))


def rows_of(log: list[tuple[Any, ...]]) -> list[Row]:
    rows, now = [], START
    for number, (step, behind, user, episode, kind, heard, position, length, agent) in enumerate(
        log
    ):
        now += step
        rows.append(
            Row(
                offset=3 * number,
                logged_at=now,
                event_id=f"e{number}",
                user=user,
                episode=episode,
                kind=kind,
                occurred_at=now - behind,
                heard_ms=heard,
                position_ms=position,
                duration_ms=length,
                user_agent=agent,
            )
        )
    return rows


def frame(rows: list[Row]) -> pl.DataFrame:
    names = {"user": "user_id", "episode": "episode_id"}
    slots = ["offset", "logged_at", "event_id", "user", "episode", "kind", "occurred_at"]
    slots += ["heard_ms", "position_ms", "duration_ms", "user_agent"]
    table = [{names.get(s, s): getattr(row, s) for s in slots} | {"partition": 2} for row in rows]
    return pl.DataFrame(table, schema=columnar.columns("user_event"))


class Run:
    """The fold over a log, cut and restarted; keeps what a reader of the outputs has."""

    def __init__(self) -> None:
        self.state = Engagement(int(LATENESS.total_seconds() * 1000))
        self.pieces: list[bytes] = []
        self.changes: list[bytes] = []
        self.windows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.days: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.retention: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.audience: list[dict[str, Any]] = []
        self.late: set[int] = set()

    def windows_of(self, slots: np.ndarray) -> pl.DataFrame:
        return windows.window_rows([windows.minutes_of(self.state, 2, slots)])

    def feed(self, rows: list[Row], how: str) -> None:
        batch = event_rows([frame(rows)], self.state.applied)
        if len(batch):
            self.late |= set(batch.offsets[self.state.apply(batch)].tolist())
        touched = windows.window_rows(
            [windows.minutes_of(self.state, 2, self.state.minutes.changed())]
        )
        self.windows |= {(r["episode_id"], r["bucket"]): r for r in touched.to_dicts()}
        before = self.state.closed
        closed = self.state.close_minutes()
        # A day may be over by a minute in which nothing happened.
        if self.state.closed > before:
            self.history += windows.window_rows(
                [windows.minutes_of(self.state, 2, closed)]
            ).to_dicts()
            over = self.state.days_over()
            self.publish_days(over, final=True)
            if over.size:
                self.audience += reach.audience_rows(self.state, 2, over, scopes(self)).to_dicts()
            self.state.drop_days()
            self.state.drop_old()
        self.publish_days(self.state.days_over(), final=False)
        self.state.forget_active()
        self.changes.append(self.state.changes())
        if how == "snapshot":
            self.pieces, self.changes = list(self.state.snapshot()), []
        if how:
            self.restart()

    def publish_days(self, days: Any, *, final: bool) -> None:
        for row in episode_days.day_rows(self.state, 2, days, final).to_dicts():
            self.days[row["episode_id"], row["day"]] = row
        for rows in episode_days.retention_rows(self.state, 2, days, final):
            for row in rows.to_dicts():
                self.retention[row["episode_id"], row["day"], row["minute"]] = row

    def restart(self) -> None:
        self.state = Engagement(self.state.lateness_ms)
        self.state.load_snapshot(self.pieces)
        for value in self.changes:
            self.state.load_changes(value)


def scopes(run: Run) -> rolling.EpisodeScopes:
    catalogue = {
        name: rolling.Show(show["show_id"], tuple(show["categories"]))
        for name, show in EPISODES.items()
    }
    return rolling.scopes_of(run.state.episodes.all(), catalogue)


def run(rows: list[Row], parts: list[tuple[int, str]]) -> Run:
    done, place = Run(), 0
    for size, how in [*parts, (len(rows), "")]:
        if place < len(rows):
            # What was handled before comes again, as after a kill.
            done.feed(rows[max(0, place - 2) : place + size], how)
            place += size
    return done


def picked(row: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in like}


def check(found: Mapping[K, dict[str, Any]], expected: Mapping[K, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    assert {key: picked(found[key], expected[key]) for key in expected} == expected


@pytest.mark.no_cover  # it doubles the time, and chance is no test of a branch
@settings(max_examples=300, deadline=None)
@given(logs, cuts)
@example([a_play(94_400), a_play(1900, 5), a_play(0)], [(2, "")])
def test_every_table_is_what_plain_python_says(
    log: list[tuple[Any, ...]], parts: list[tuple[Any, ...]]
) -> None:
    rows = rows_of(log)
    verdicts = tables.judge(rows, LATENESS)
    done = run(rows, parts)
    assert done.late == tables.late_offsets(verdicts)
    assert done.state.late == len(done.late)
    assert done.state.events == len(rows)
    check(done.windows, tables.windows(verdicts))
    history = {(row["episode_id"], row["bucket"]): row for row in done.history}
    assert len(history) == len(done.history)
    assert [row["bucket"] for row in done.history] == sorted(r["bucket"] for r in done.history)
    check(history, tables.history(verdicts, LATENESS))
    check(done.days, tables.days(verdicts, LATENESS))
    check(done.retention, tables.retention(verdicts, LATENESS))
    audience = {(row["kind"], row["scope"], row["day"]): row for row in done.audience}
    assert len(audience) == len(done.audience)
    expected = audience_of(verdicts)
    assert {key: row["listeners"] for key, row in audience.items()} == {
        key: len(users) for key, users in expected.items()
    }
    assert all(reach.reach([r["sketch"]]).listeners == r["listeners"] for r in done.audience)


def audience_of(verdicts: list[tables.Verdict]) -> dict[tuple[Any, ...], set[str]]:
    """Kind, scope and finished day -> its listeners."""
    found: dict[tuple[Any, ...], set[str]] = {}
    over = tables.watermark_of(verdicts) - LATENESS
    for verdict in verdicts:
        if verdict.listening and tables.end_of(verdict.day) <= over:
            show = EPISODES.get(verdict.row.episode, {"show_id": None, "categories": []})
            places = [("all", ""), ("episode", verdict.row.episode)]
            places += [("show", show["show_id"])] if show["show_id"] else []
            places += [("category", name) for name in show["categories"]]
            for place in places:
                found.setdefault((*place, verdict.day), set()).add(verdict.row.user)
    return found


@pytest.mark.no_cover  # it doubles the time, and chance is no test of a branch
@settings(max_examples=300, deadline=None)
@given(logs, cuts, st.sampled_from([0, 0, 1, 4, 50, 700]))
def test_rolling_windows_are_what_plain_python_says(
    log: list[tuple[Any, ...]], parts: list[tuple[Any, ...]], ahead: int
) -> None:
    rows = rows_of(log)
    verdicts = tables.judge(rows, LATENESS)
    done = run(rows, parts)
    at = done.state.watermark // MINUTE_MS + ahead
    found = rolling.rolling_rows(done.state, 2, at, scopes(done))
    table = {(r["kind"], r["scope"], r["minutes"]): r for r in found.to_dicts()}
    assert len(table) == found.height
    when = datetime.fromtimestamp(at * 60, UTC)
    check(table, tables.rolling(verdicts, when, EPISODES))
    assert set(found["at"]) == {when} or found.is_empty()


def listened(listeners: Mapping[str, int]) -> Run:
    """So many listeners of each episode, a second apart."""
    step = (timedelta(seconds=1), timedelta(0))
    log = [
        (*step, f"u{number}", episode, "play", 1000, 1000, None, None)
        for episode, count in listeners.items()
        for number in range(count)
    ]
    return run(rows_of(log), [])


def test_of_too_many_rolling_windows_those_with_the_most_listeners_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = listened({"pi:1": 4, "pi:2": 2, "rss:ü": 1, "pi:unknown": 3})
    at = done.state.watermark // MINUTE_MS
    every = rolling.rolling_rows(done.state, 2, at, scopes(done))
    monkeypatch.setattr(rolling, "MOST_ROWS", 9)
    told = rolling.rolling_rows(done.state, 2, at, scopes(done))
    assert told.height == 9
    assert told["listeners"].min() == sorted(every["listeners"], reverse=True)[8]
    assert set(told.rows()) < set(every.rows())


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_a_message_of_history_ends_with_the_minute(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    done = listened({"pi:1": 70, "pi:2": 70, "rss:ü": 70})
    slots = np.arange(len(done.state.minutes))
    rows = done.windows_of(slots).sort("bucket", "episode_id")
    monkeypatch.setattr(windows, "_MESSAGE_ROWS", most)
    messages = list(windows.history_messages(rows))
    assert pl.concat(messages).equals(rows)
    assert sum(message["bucket"].n_unique() for message in messages) == rows["bucket"].n_unique()
    assert all(message.height >= most for message in messages[:-1])
    assert (len(messages) == 1) == (most == 100)


def test_nothing_is_old_before_anything_is_over() -> None:
    done = Run()
    done.state.drop_old()
    assert done.state.close_minutes().size == 0
    assert len(done.state.minutes) == 0


def test_a_day_that_ends_with_the_last_closed_minute_is_over_after_a_restart_too() -> None:
    heard = (timedelta(0), "ada", "pi:1", "play", 60_000, 60_000, None, None)
    # The second event, at 0:15:10, closes the minutes up to 23:59, and with it a day.
    log = [(timedelta(hours=2, minutes=20), *heard), (timedelta(minutes=25, seconds=10), *heard)]
    undisturbed, restarted = Run(), Run()
    for run, how in ((undisturbed, ""), (restarted, "changes")):
        for row in rows_of(log):
            run.feed([row], how)
        assert len(run.state.days) == 0
    assert restarted.state.heard.keys.tolist() == undisturbed.state.heard.keys.tolist()
    assert len(restarted.state.heard) == 1


def test_memory_is_bounded_by_what_is_active() -> None:
    state, sizes = Engagement(0), []
    for visit in range(8):
        # Every three days other listeners and other episodes.
        step = (timedelta(seconds=10), timedelta(0))
        log = [
            (*step, f"u{visit}-{n}", f"pi:{visit}-{n % 700}", "play", 1000, 1000, None, None)
            for n in range(2000)
        ]
        later = timedelta(days=3 * visit)
        rows = [
            replace(
                row,
                offset=row.offset + 100_000 * visit,
                logged_at=row.logged_at + later,
                occurred_at=row.occurred_at + later,
            )
            for row in rows_of(log)
        ]
        state.apply(event_rows([frame(rows)], state.applied))
        state.close_minutes()
        state.drop_days()
        state.drop_old()
        list(state.snapshot())
        tables_of = (state.minutes, state.hours, state.days, state.pairs, state.heard)
        sizes.append((len(state.users), len(state.episodes), *map(len, tables_of)))
    assert state.events == 16_000
    assert all(max(size) <= 6000 for size in sizes)
    assert len(state.users) <= 5000


@given(logs, st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_who_is_forgotten_stays_counted_and_is_nobody(log: list[tuple[Any, ...]], at: int) -> None:
    rows = rows_of(log)
    forgotten, other = Run(), Run()
    as_nobody = [replace(r, user="nobody") if r.user == "ada" else r for r in rows[:at]]
    for run, before in ((forgotten, rows[:at]), (other, as_nobody)):
        if before:
            run.feed(before, "")
    known = "ada" in forgotten.state.users.all()
    assert forgotten.state.forget("ada", "nobody") == known
    assert "ada" not in forgotten.state.users.all()
    assert not any(b"ada" in piece for piece in forgotten.state.snapshot())
    for run in (forgotten, other):
        if rows[at:]:
            run.feed(rows[at:], "")
    assert forgotten.windows == other.windows
    assert forgotten.history == other.history
    assert forgotten.days == other.days
    assert forgotten.late == other.late
