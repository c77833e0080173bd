"""The output topics against the oracle, table by table, source partition by source partition."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.oracle import readers, tables
from tests.oracle.anomalies import anomalies
from tests.oracle.log import Entry, Row, Sorted, sort_out
from tests.oracle.tables import Verdict

TRENDING_PLACES = 50
SHORTEST_CHECKED = 12
"""Rolling windows are checked at the end, and at about this many moments before."""

Outputs = Callable[[str], list[tuple[int, Any]]]
"""Topic -> what it holds: (partition, decoded value) in the order of each partition's log."""


@dataclass
class Oracle:
    """What one log of `user-events` means."""

    lateness: timedelta
    partitions: int
    episodes: Mapping[str, Mapping[str, Any]]
    """What the metadata say: episode -> `show_id`, `categories`, `language`."""
    sorted: dict[int, Sorted]
    verdicts: dict[int, list[Verdict]]
    """Source partition -> verdicts; only partitions that have good events."""
    forgotten: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of listeners who were forgotten, the name that they have in verdicts -> their own, and the
    offset after which they were."""

    @classmethod
    def of(
        cls,
        log: Mapping[int, Sequence[Entry]],
        episodes: Mapping[str, Mapping[str, Any]],
        *,
        lateness_s: int,
        dedup_window: int,
        owner: Callable[[str], int] | None = None,
        forgotten: Callable[[int, Row], bool] = lambda number, row: False,
        forgettings: Mapping[int, Sequence[tuple[str, int]]] | None = None,
    ) -> Oracle:
        """``owner``: the partition of a listener; without it, whatever partition an event is in.

        ``forgotten``: whether a good event of a partition is not counted: its listener asked.
        ``forgettings``: listeners of a partition who were forgotten after an offset, in order.
        """
        lateness = timedelta(seconds=lateness_s)
        sorted_out = {
            number: sort_out(
                entries,
                dedup_window,
                lambda user, number=number: owner is None or owner(user) == number,  # type: ignore[misc]
            )
            for number, entries in log.items()
        }
        for number, records in sorted_out.items():
            records.forget([row for row in records.good if forgotten(number, row)])
        names: dict[str, tuple[str, int]] = {}
        verdicts = {
            number: tables.judge(
                as_nobody(records.good, (forgettings or {}).get(number, ()), names), lateness
            )
            for number, records in sorted_out.items()
            if records.good
        }
        return cls(lateness, len(log), episodes, sorted_out, verdicts, names)

    def by_name(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts with the listeners' own names."""
        return [
            replace(v, row=replace(v.row, user=self.forgotten.get(v.row.user, (v.row.user, 0))[0]))
            for v in verdicts
        ]

    def per_partition(self, table: Callable[..., Any], *more: Any) -> dict[int, Any]:
        """A table of each partition that has any row of it."""
        found = {number: table(verdicts, *more) for number, verdicts in self.verdicts.items()}
        return {number: rows for number, rows in found.items() if rows}

    # -- the way in ------------------------------------------------------------------------------

    def check_batches(self, outputs: Outputs, dead: Sequence[tuple[int, int]]) -> None:
        """Every record is accounted for, once. ``dead``: partition and offset of dead letters."""
        batched: dict[int, list[int]] = defaultdict(list)
        for partition, rows in outputs("user-event-batches"):
            batched[partition] += [row["offset"] for row in rows]
        for number, records in self.sorted.items():
            good = [row.offset for row in records.good]
            lost, extra = sorted({*good} - {*batched[number]}), sorted({*batched[number]} - {*good})
            assert batched[number] == good, (
                f"batches of partition {number}: without {lost[:20]}, with {extra[:20]},"
                f" {len(batched[number])} for {len(good)}"
            )
        expected = [(number, o) for number, records in self.sorted.items() for o in records.dead]
        assert sorted(dead) == sorted(expected)

    # -- track_engagement ------------------------------------------------------------------------

    def check_engagement(self, outputs: Outputs) -> None:
        shown = outputs("engagement-windows")
        self._agree("engagement-windows", readers.windows(shown), tables.windows)
        self._check_every_window(shown)
        told = outputs("engagement-totals")
        self._agree("engagement-totals", readers.totals(told), tables.totals)
        self._check_every_total(told)
        self._agree(
            "engagement-history",
            readers.history(outputs("engagement-history")),
            tables.history,
            self.lateness,
        )
        self._agree(
            "episode-days", readers.days(outputs("episode-days")), tables.days, self.lateness
        )
        self._agree(
            "episode-retention",
            readers.retention(outputs("episode-retention")),
            tables.retention,
            self.lateness,
        )
        self._agree(
            "audience-days",
            readers.audience(outputs("audience-days")),
            tables.audience,
            self.lateness,
            self.episodes,
        )
        self._agree("late-events", readers.late(outputs("late-events")), tables.late_offsets)
        self._check_rolling(outputs("rolling-windows"))
        self._check_progress(outputs, "track_engagement")

    def _check_every_window(self, shown: list[tuple[int, Any]]) -> None:
        """Each row that was ever sent was true of the log up to its offset."""
        groups: dict[tuple[int, str, datetime], list[Verdict]] = defaultdict(list)
        for number, verdicts in self.verdicts.items():
            for verdict in tables.on_time(verdicts):
                groups[number, verdict.row.episode, verdict.minute].append(verdict)
        for partition, rows in shown:
            for row in rows:
                place = (row["episode_id"], row["bucket"])
                then = tables.up_to(groups[row["source_partition"], *place], row["offset"])
                assert readers.pick(row, readers.WINDOW) == tables.windows(then).get(place), row
                assert partition == zlib.crc32(row["episode_id"].encode()) % self.partitions

    def _check_every_total(self, told: list[tuple[int, Any]]) -> None:
        for partition, rows in told:
            for row in rows:
                assert row["source_partition"] == partition
                then = tables.up_to(self.verdicts[partition], row["offset"])
                assert readers.pick(row, readers.TOTAL) == tables.totals(then)[row["bucket"]], row

    def _check_rolling(self, messages: list[tuple[int, Any]]) -> None:
        newest = max(tables.watermark_of(verdicts) for verdicts in self.verdicts.values())
        for number, verdicts in self.verdicts.items():
            told = [rows for partition, rows in messages if partition == number]
            if not told:
                raise AssertionError(f"no rolling windows of partition {number}")
            last = told[-1]
            expected = tables.rolling(verdicts, tables.minute_of(newest), self.episodes)
            readers.agree(f"rolling-windows of {number}", _rolling_rows(last), expected)
            assert {row["at"] for row in last} <= {tables.minute_of(newest)}
            for rows in told[:: max(1, len(told) // SHORTEST_CHECKED)]:
                if rows:
                    (at,), (offset,) = ({row[name] for row in rows} for name in ("at", "offset"))
                    before = tables.up_to(verdicts, offset)
                    expected = tables.rolling(before, at, self.episodes)
                    what = f"rolling-windows of {number} at {at}, offset {offset}"
                    readers.agree(what, _rolling_rows(rows), expected)

    # -- track_listening -------------------------------------------------------------------------

    def check_listening(self, outputs: Outputs) -> None:
        self._agree(
            "user-episode-daily",
            readers.daily(outputs("user-episode-daily")),
            lambda verdicts: tables.daily(self.by_name(verdicts)),
        )
        self._agree(
            "listening-sessions",
            readers.sessions(outputs("listening-sessions")),
            tables.told_sessions,
            self.lateness,
            self.forgotten,
        )
        self._agree(
            "listening-streaks",
            readers.streaks(outputs("listening-streaks")),
            tables.told_streaks,
            self.forgotten,
        )
        self._check_progress(outputs, "track_listening")

    # -- rank_trending ---------------------------------------------------------------------------

    def check_trending(self, outputs: Outputs) -> None:
        """The last record of each scope and partition; all scopes that have a new listener."""
        told = {
            (record["scope"], record["source_partition"]): record
            for _, record in outputs("trending-episodes")
        }
        expected = self._trending()
        for place in {**expected, **{key: 0 for key, record in told.items() if record["episodes"]}}:
            assert place in told, f"no trending episodes of {place}"
            at, facts = expected.get(place, (None, {}))
            assert told[place]["at"] == at, place
            places = told[place]["episodes"]
            best = sorted(facts, key=lambda name: (-round(facts[name]["score"], 6), name))
            assert [p["episode_id"] for p in places] == best[:TRENDING_PLACES], place
            for row in places:
                wanted = facts[row["episode_id"]]
                told_facts = {name: row[name] for name in wanted}
                assert told_facts == pytest.approx(wanted, abs=1e-5, rel=1e-9), place

    def _trending(self) -> dict[tuple[str, int], tuple[datetime, dict[str, dict[str, Any]]]]:
        """Scope and partition of `engagement-windows` -> newest minute, episode -> facts."""
        new: dict[int, dict[tuple[str, datetime], int]] = defaultdict(lambda: defaultdict(int))
        plays: dict[tuple[str, datetime], int] = defaultdict(int)
        for counted in self.per_partition(tables.windows).values():
            for (episode, minute), row in counted.items():
                target = zlib.crc32(episode.encode()) % self.partitions
                new[target][episode, minute] += row["new_listeners"]
                plays[episode, minute] += row["plays"]
        found: dict[tuple[str, int], tuple[datetime, dict[str, dict[str, Any]]]] = {}
        for target, listeners in new.items():
            at = max(minute for _, minute in listeners)
            for episode, facts in tables.trending(listeners, at).items():
                facts["plays"] = sum(
                    n
                    for (name, minute), n in plays.items()
                    if name == episode and minute > at - 6 * tables.HOUR
                )
                for scope in self._trending_scopes(episode):
                    found.setdefault((scope, target), (at, {}))[1][episode] = facts
        return found

    def _trending_scopes(self, episode: str) -> list[str]:
        known = self.episodes.get(episode, {})
        categories = [f"category:{name}" for name in known.get("categories", ())]
        language = known.get("language") and f"language:{known['language']}"
        both = [f"{category}|{language}" for category in categories] if language else []
        return ["all", *categories, *([language] if language else []), *both]

    # -- detect_anomalies ------------------------------------------------------------------------

    def check_anomalies(self, outputs: Outputs) -> int:
        """Gives how many there are."""
        told = readers.anomalies(outputs("episode-anomalies"))
        assert self.verdicts.keys() == self.sorted.keys(), "a source partition has no event"
        expected = anomalies(
            self.per_partition(tables.windows),
            {n: tables.watermark_of(v) - self.lateness for n, v in self.verdicts.items()},
            lambda episode: zlib.crc32(episode.encode()) % self.partitions,
        )
        readers.agree_on_anomalies(told, expected)
        return len(told)

    # -- all of them -----------------------------------------------------------------------------

    def _check_progress(self, outputs: Outputs, stage: str) -> None:
        told = readers.progress(record for _, record in outputs("table-progress"))
        for number, verdicts in self.verdicts.items():
            record = told[stage, number]
            expected = {
                "watermark": tables.watermark_of(verdicts),
                "late": len(tables.late_offsets(verdicts)),
                "events": len(verdicts),
            }
            readers.agree(f"progress of {stage} {number}", readers.pick(record, expected), expected)
            assert record["offset"] >= verdicts[-1].row.offset

    def _agree(
        self, what: str, actual: Mapping[int, Any], table: Callable[..., Any], *more: Any
    ) -> None:
        expected = self.per_partition(table, *more)
        for number in sorted({**actual, **expected}):
            told, wanted = actual.get(number, {}), expected.get(number, {})
            if isinstance(told, set) or isinstance(wanted, set):
                assert set(told) == set(wanted), f"{what} of partition {number}"
            else:
                readers.agree(f"{what} of partition {number}", told, wanted)


def as_nobody(
    rows: Sequence[Row],
    forgettings: Sequence[tuple[str, int]],
    names: dict[str, tuple[str, int]],
) -> list[Row]:
    """The rows of a partition with another name for whoever is forgotten later, noted in
    ``names``: who comes back is somebody else."""
    found = list(rows)
    for user, after in forgettings:
        name = f"nobody-{len(names)}"
        names[name] = (user, after)
        found = [
            replace(row, user=name) if row.user == user and row.offset <= after else row
            for row in found
        ]
    return found


def _rolling_rows(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    found = {
        (row["kind"], row["scope"], row["minutes"]): readers.pick(row, readers.ROLLING)
        for row in rows
    }
    assert len(found) == len(rows), "two rows of one scope in one message"
    return found
