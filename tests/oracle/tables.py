"""What every live table must say, told in plain Python from a partition's good events.

First each event is judged in the order of the log: is it late, is it listening, is the listener
new, does it make a stream, an engaged listener? A verdict depends on earlier events only, so the
verdicts on a prefix of the log are the first ones of the verdicts on all of it. Every table is
then a sum or a set over the verdicts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import crawleruseragents

from tests.oracle.log import Row

MINUTE = timedelta(minutes=1)
HALF_HOUR = timedelta(minutes=30)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STREAM_MS = 60_000
ENGAGED_MS = 1_200_000
RETENTION_MINUTES = 256
ROLLING_MINUTES = (1, 5, 15, 60, 1440)
KINDS = {"impression": "impressions", "click": "clicks", "play": "plays", "complete": "completes"}
COUNTS = (*KINDS.values(), "heard_ms")

Counts = dict[str, Any]
"""Column -> value of one row of a table."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an event is to the live tables."""

    row: Row
    at: datetime
    """Counted time: nobody hears in the future, so a fast clock counts at arrival."""
    watermark: datetime
    """The newest counted time up to this event, itself included."""
    late: bool
    listening: bool
    new_listener: bool = False
    stream: bool = False
    engaged: bool = False

    @property
    def minute(self) -> datetime:
        return minute_of(self.at)

    @property
    def day(self) -> date:
        return self.at.date()


@dataclass
class Pair:
    """A listener and an episode: their current session."""

    last: datetime
    heard_ms: int = 0
    engaged: bool = False


def minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def end_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC) + DAY


@cache
def is_bot(user_agent: str | None) -> bool:
    return user_agent is not None and crawleruseragents.is_crawler(user_agent)


def judge(rows: Iterable[Row], lateness: timedelta) -> list[Verdict]:
    """The verdict on every good event of one partition, in the order of the log."""
    verdicts: list[Verdict] = []
    pairs: dict[tuple[str, str], Pair] = {}
    watermark: datetime | None = None
    for row in rows:
        at = min(row.occurred_at, row.logged_at)
        late = watermark is not None and at < watermark - lateness
        watermark = at if watermark is None else max(watermark, at)
        heard = row.kind == "play" or row.heard_ms > 0
        listening = heard and not late and not is_bot(row.user_agent)
        facts = _listen(pairs, row, at) if listening else {}
        verdicts.append(Verdict(row, at, watermark, late, listening, **facts))
    return verdicts


def _listen(pairs: dict[tuple[str, str], Pair], row: Row, at: datetime) -> dict[str, bool]:
    """What a listening event makes of its listener and episode."""
    place = (row.user, row.episode)
    pair = pairs.get(place)
    new_listener = pair is None or at > pair.last + DAY
    if pair is None or at > pair.last + HALF_HOUR:
        pair = pairs[place] = Pair(at)  # a new session
    pair.last = max(pair.last, at)
    before = pair.heard_ms
    pair.heard_ms += row.heard_ms
    engaged = not pair.engaged and (
        pair.heard_ms >= ENGAGED_MS
        or bool(row.duration_ms and pair.heard_ms * 5 >= row.duration_ms * 2)
    )
    pair.engaged = pair.engaged or engaged
    return {
        "new_listener": new_listener,
        "stream": before < STREAM_MS <= pair.heard_ms,
        "engaged": engaged,
    }


# -- sums and sets over the verdicts of one partition ----------------------------------------------


def watermark_of(verdicts: Sequence[Verdict]) -> datetime:
    return verdicts[-1].watermark


def up_to(verdicts: Sequence[Verdict], offset: int) -> list[Verdict]:
    """The verdicts on the log up to and with an offset."""
    return [verdict for verdict in verdicts if verdict.row.offset <= offset]


def on_time(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.late]


def late_offsets(verdicts: Iterable[Verdict]) -> set[int]:
    return {verdict.row.offset for verdict in verdicts if verdict.late}


def counts_of(rows: Iterable[Row]) -> Counts:
    counts: Counts = dict.fromkeys(COUNTS, 0)
    for row in rows:
        counts["heard_ms"] += row.heard_ms
        if row.kind in KINDS:
            counts[KINDS[row.kind]] += 1
    return counts


def _grouped(verdicts: Iterable[Verdict], key: Any) -> dict[Any, list[Verdict]]:
    groups: dict[Any, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[key(verdict)].append(verdict)
    return groups


def _listeners(verdicts: Iterable[Verdict]) -> set[str]:
    return {verdict.row.user for verdict in verdicts if verdict.listening}


def windows(verdicts: Iterable[Verdict]) -> dict[tuple[str, datetime], Counts]:
    """`engagement-windows`: episode and minute -> the newest row."""
    groups = _grouped(on_time(verdicts), lambda v: (v.row.episode, v.minute))
    return {
        place: {
            **counts_of(v.row for v in group),
            "offset": max(v.row.offset for v in group),
            "listeners": len(_listeners(group)),
            "new_listeners": sum(v.new_listener for v in group),
            "streams": sum(v.stream for v in group),
            "engaged": sum(v.engaged for v in group),
        }
        for place, group in groups.items()
    }


def totals(verdicts: Iterable[Verdict]) -> dict[datetime, Counts]:
    """`engagement-totals`: minute -> the newest row."""
    groups = _grouped(on_time(verdicts), lambda v: v.minute)
    return {
        minute: {
            **counts_of(v.row for v in group),
            "offset": max(v.row.offset for v in group),
            "streams": sum(v.stream for v in group),
        }
        for minute, group in groups.items()
    }


def history(verdicts: Sequence[Verdict], lateness: timedelta) -> dict[tuple[str, datetime], Counts]:
    """`engagement-history`: the windows that nothing can change any more."""
    watermark = watermark_of(verdicts)
    return {
        (episode, minute): counts
        for (episode, minute), counts in windows(verdicts).items()
        if minute + MINUTE + lateness <= watermark
    }


def days(verdicts: Sequence[Verdict], lateness: timedelta) -> dict[tuple[str, date], Counts]:
    """`episode-days`: episode and UTC day -> the newest row."""
    watermark = watermark_of(verdicts)
    return {
        (episode, day): {
            **counts_of(v.row for v in group),
            "streams": sum(v.stream for v in group),
            "engaged": sum(v.engaged for v in group),
            "downloads": len(_listeners(group)),
            "final": end_of(day) + lateness <= watermark,
        }
        for (episode, day), group in _grouped(
            on_time(verdicts), lambda v: (v.row.episode, v.day)
        ).items()
    }


def retention(
    verdicts: Sequence[Verdict], lateness: timedelta
) -> dict[tuple[str, date, int], Counts]:
    """`episode-retention`: episode, UTC day and minute of the episode -> the newest row."""
    heard: dict[tuple[str, date, int], set[str]] = defaultdict(set)
    for verdict in verdicts:
        row = verdict.row
        told = row.kind != "skip" and row.position_ms > 0
        if verdict.listening and row.heard_ms > 0 and told:
            start = max(0, row.position_ms - row.heard_ms)
            for minute in range(start // 60_000, (row.position_ms - 1) // 60_000 + 1):
                if minute < RETENTION_MINUTES:
                    heard[row.episode, verdict.day, minute].add(row.user)
    watermark = watermark_of(verdicts)
    return {
        (episode, day, minute): {
            "listeners": len(users),
            "final": end_of(day) + lateness <= watermark,
        }
        for (episode, day, minute), users in heard.items()
    }


def audience(
    verdicts: Sequence[Verdict],
    lateness: timedelta,
    episodes: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str, date], int]:
    """`audience-days`: kind, scope and finished UTC day -> distinct listeners."""
    watermark = watermark_of(verdicts)
    rows: dict[tuple[str, str, date], int] = {}
    for day, group in _grouped(on_time(verdicts), lambda v: v.day).items():
        if end_of(day) + lateness > watermark:
            continue
        by_episode = _grouped(group, lambda v: v.row.episode)
        for kind, scope, members in [*_scopes(by_episode, episodes), ("all", "", set(by_episode))]:
            heard = _listeners(v for name in members for v in by_episode[name])
            if heard:
                rows[kind, scope, day] = len(heard)
    return rows


def rolling(
    verdicts: Sequence[Verdict], at: datetime, episodes: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str, int], Counts]:
    """`rolling-windows` at a minute: kind, scope and length in minutes -> the row, if not zero.

    ``episodes`` is what the metadata say: episode -> `show_id` and `categories`.
    """
    last: dict[tuple[str, str], datetime] = {}
    engaged: dict[tuple[str, str], datetime] = {}
    for verdict in verdicts:
        pair = (verdict.row.user, verdict.row.episode)
        if verdict.new_listener:
            last.pop(pair, None)
            engaged.pop(pair, None)
        if verdict.listening:
            last[pair] = max(last.get(pair, verdict.minute), verdict.minute)
        if verdict.engaged:
            engaged[pair] = max(engaged.get(pair, verdict.minute), verdict.minute)

    rows: dict[tuple[str, str, int], Counts] = {}
    for minutes in ROLLING_MINUTES:
        first = at - (minutes - 1) * MINUTE if minutes < 1440 else hour_of(at) - 23 * HOUR
        inside = [v for v in on_time(verdicts) if first <= v.minute <= at]
        by_episode = _grouped(inside, lambda v: v.row.episode)
        for kind, scope, members in _scopes(by_episode, episodes):
            group = [v for name in members for v in by_episode[name]]
            rows[kind, scope, minutes] = {
                **counts_of(v.row for v in group),
                "streams": sum(v.stream for v in group),
                "listeners": _distinct(last, members, first, at),
                "engaged": _distinct(engaged, members, first, at),
            }
    return {place: row for place, row in rows.items() if any(row.values())}


def _scopes(
    names: Iterable[str], episodes: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str, set[str]]]:
    """Kind and name of every scope that has some of the named episodes, and which ones."""
    members: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in names:
        members["episode", name].add(name)
        if name in episodes:
            members["show", episodes[name]["show_id"]].add(name)
            for category in episodes[name]["categories"]:
                members["category", category].add(name)
    return [(kind, scope, names) for (kind, scope), names in members.items()]


def _distinct(
    minutes: Mapping[tuple[str, str], datetime], members: set[str], first: datetime, end: datetime
) -> int:
    """Distinct listeners of any of the episodes whose minute is within the window."""
    return len(
        {
            user
            for (user, episode), minute in minutes.items()
            if episode in members and first <= minute <= end
        }
    )


def daily(verdicts: Iterable[Verdict]) -> dict[tuple[str, str, date], Counts]:
    """`user-episode-daily` added up: listener, episode and day; late events as well."""
    groups = _grouped(verdicts, lambda v: (v.row.user, v.row.episode, v.row.occurred_at.date()))
    return {
        place: {
            **counts_of(v.row for v in group),
            "likes": sum(v.row.kind == "like" for v in group),
            "dislikes": sum(v.row.kind == "dislike" for v in group),
            "first_at": min(v.row.occurred_at for v in group),
            "last_at": max(v.row.occurred_at for v in group),
            "duration_ms": max(v.row.duration_ms or 0 for v in group),
        }
        for place, group in groups.items()
    }


def sessions(
    verdicts: Sequence[Verdict], lateness: timedelta
) -> dict[tuple[str, datetime], Counts]:
    """`listening-sessions`: listener and start -> what is known to be over.

    ``offset`` is that of the event after which nothing can join the session any more.
    """
    watermark = watermark_of(verdicts)
    found: dict[tuple[str, datetime], Counts] = {}
    for user, group in _grouped(on_time(verdicts), lambda v: v.row.user).items():
        for run in _runs(sorted(group, key=lambda v: v.at)):
            started_at, ended_at = run[0].at, run[-1].at
            over = ended_at + HALF_HOUR + lateness
            if over < watermark:
                counts = counts_of(v.row for v in run)
                found[user, started_at] = {
                    "ended_at": ended_at,
                    "offset": next(v.row.offset for v in verdicts if v.watermark > over),
                    "events": len(run),
                    **{name: counts[name] for name in ("plays", "completes", "heard_ms")},
                }
    return found


def told_sessions(
    verdicts: Sequence[Verdict], lateness: timedelta, forgotten: Mapping[str, tuple[str, int]]
) -> dict[tuple[str, datetime], Counts]:
    """`listening-sessions`, where listeners were forgotten: what was over by then was told.

    ``forgotten``: by the names that such listeners have in ``verdicts``, their own and the offset
    after which they were forgotten.
    """
    told: dict[tuple[str, datetime], Counts] = {}
    for (user, started_at), row in sessions(verdicts, lateness).items():
        own, until = forgotten.get(user, (user, row["offset"]))
        if row["offset"] <= until:
            told[own, started_at] = row
    return told


def told_streaks(
    verdicts: Iterable[Verdict], forgotten: Mapping[str, tuple[str, int]]
) -> dict[tuple[str, date], int]:
    """`listening-streaks`, where listeners were forgotten: what came later counts anew."""
    found = streaks(verdicts)
    before = {(forgotten[u][0], day): n for (u, day), n in found.items() if u in forgotten}
    return before | {place: n for place, n in found.items() if place[0] not in forgotten}


def _runs(ordered: Sequence[Verdict]) -> list[list[Verdict]]:
    """Events in the order of time, cut where more than half an hour passes."""
    runs: list[list[Verdict]] = []
    for verdict in ordered:
        if runs and verdict.at - runs[-1][-1].at <= HALF_HOUR:
            runs[-1].append(verdict)
        else:
            runs.append([verdict])
    return runs


def streaks(verdicts: Iterable[Verdict]) -> dict[tuple[str, date], int]:
    """`listening-streaks`: listener and day -> days in a row up to that day."""
    listened = {(v.row.user, v.day) for v in verdicts if v.listening}

    def length(user: str, day: date) -> int:
        return 1 + length(user, day - DAY) if (user, day - DAY) in listened else 1

    return {(user, day): length(user, day) for user, day in listened}


# -- sums over partitions --------------------------------------------------------------------------


def trending(
    new_listeners: Mapping[tuple[str, datetime], int], at: datetime
) -> dict[str, dict[str, float]]:
    """Score and reason of every episode with a new listener in the last six hours.

    ``new_listeners`` are those of each episode and minute, source partitions added up; ``at`` is
    the newest minute. The day before is counted by the hour: of its first hour, which is not
    wholly within, a share counts.
    """
    first_hour = hour_of(at) - DAY
    share = (59 - at.minute) / 60
    facts: dict[str, dict[str, float]] = {}
    for episode in {episode for episode, _ in new_listeners}:
        ages = Counter({at - b: n for (name, b), n in new_listeners.items() if name == episode})
        score = sum(n * 0.5 ** (age / HALF_HOUR) for age, n in ages.items() if age < 6 * HOUR)
        recent = sum(n for age, n in ages.items() if age < HOUR)
        before = [(at - age, n) for age, n in ages.items() if age >= HOUR]
        whole = sum(n for b, n in before if hour_of(b) > first_hour)
        part = sum(n for b, n in before if hour_of(b) == first_hour)
        usual = (whole + share * part) / 23
        if score > 0:
            facts[episode] = {
                "score": score,
                "recent": recent,
                "usual": usual,
                "rise": (recent + 1) / (usual + 1),
            }
    return facts
