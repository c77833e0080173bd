"""Whether a simulation went well: every table, at rest and at moments before, by the oracle."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import polars as pl

from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from tests.oracle import readers, tables
from tests.oracle.check import Oracle, Outputs
from tests.oracle.listeners import EPISODES
from tests.oracle.log import Entry, Row
from tests.oracle.watermarks import Follower, Told, check_headers
from tests.simulation import moments
from tests.simulation.batcher import REQUESTS
from tests.simulation.kafka import PARTITIONS, wire
from tests.simulation.simulation import Moment, Simulation
from tests.simulation.watch import BATCHES

ORIGIN = "podstream.origin"
WINDOWS, ANOMALIES = "engagement-windows", "detect_anomalies"
CHECKS = {
    "track_engagement": Oracle.check_engagement,
    "track_listening": Oracle.check_listening,
    "rank_trending": Oracle.check_trending,
}


class Verdict:
    """What a simulation has left behind, and what it should have."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._decoded: dict[tuple[str, int, int], Any] = {}

    def outputs(self, topic: str) -> list[tuple[int, Any]]:
        """What a topic holds: partition and content of each record, in the order of the log."""
        return [
            (message.partition, self._content(message))
            for message in self._simulation.logs.records(topic)
        ]

    def _content(self, message: Message) -> Any:
        place = (message.topic, message.partition, message.offset)
        if place not in self._decoded:
            value = wire().decode(message.topic, message.value)
            self._decoded[place] = value.to_dicts() if isinstance(value, pl.DataFrame) else value
        found = self._decoded[place]
        return dict(found) if isinstance(found, dict) else found

    def entries(self) -> dict[int, list[Entry]]:
        """The records of the events as the oracle wants them."""
        return {n: [self._entry(m) for m in self._records(n)] for n in range(PARTITIONS)}

    def _records(self, partition: int) -> list[Message]:
        return [m for m in self._simulation.logs.records("user-events") if m.partition == partition]

    def _entry(self, message: Message) -> Entry:
        logged_at = datetime.fromtimestamp(message.timestamp_ms / 1000, UTC)
        event = self._simulation.sent[message.value].readable
        told = message.header(ORIGIN)
        origin = None
        if told is not None:
            sender, _, number = told.decode().rpartition(":")
            origin = (sender, int(number))
        return Entry(message.offset, logged_at, event, origin)

    @cached_property
    def _batched(self) -> dict[tuple[int, int], int]:
        """Partition and offset of each batched event, and the offset of its first batch."""
        found: dict[tuple[int, int], int] = {}
        for message in self._simulation.logs.records(BATCHES):
            for row in self._content(message):
                found.setdefault((message.partition, row["offset"]), message.offset)
        return found

    @cached_property
    def _requests(self) -> dict[str, int]:
        """When each listener who was to be forgotten was so last, by the log's time."""
        return {m.key_text: m.timestamp_ms for m in self._simulation.logs.records(REQUESTS)}

    def _left_out(self, partition: int, row: Row) -> bool:
        """Whether an event that is in no batch rightly is in none."""
        asked_ms = self._requests.get(row.user, -1)
        logged_ms = row.logged_at.timestamp() * 1000
        return logged_ms <= asked_ms and (partition, row.offset) not in self._batched

    def _forgettings(self, partition: int) -> list[tuple[str, int]]:
        """Who was forgotten, and after which offset, as whoever reads the batches in order has it:
        what says so again, when later events have been counted, says nothing."""
        applied = -1
        found: list[tuple[str, int]] = []
        for message in self._simulation.logs.records(BATCHES):
            if message.partition != partition:
                continue
            applied = max([applied, *(row["offset"] for row in self._content(message))])
            user, up_to = message.header("forgotten"), message.header("up_to")
            if user is not None and applied <= int(up_to or b""):
                found.append((user.decode(), applied))
        return found

    def _check_forgetting(self) -> None:
        """Every request is answered, and what is batched for the first time afterwards is new."""
        answers: dict[tuple[int, str], int] = {}
        for message in self._simulation.logs.records(BATCHES):
            if (user := message.header("forgotten")) is not None:
                answers[message.partition, user.decode()] = message.offset
        owners = {(partition_of(u.encode(), PARTITIONS), u) for u in self._requests}
        assert answers.keys() == owners, f"answered {answers}, asked {owners}"
        told = {
            m.key_text: int(m.header("up_to") or b"")
            for m in self._simulation.logs.records("forgotten-listeners")
        }
        assert told.keys() == self._requests.keys(), "who is on record as forgotten"
        for message in self._simulation.logs.records(BATCHES):
            for row in self._content(message):
                answered = answers.get((message.partition, row["user_id"]))
                first = self._batched[message.partition, row["offset"]]
                if answered is not None and first > answered:
                    late = row["logged_at"].timestamp() * 1000 > self._requests[row["user_id"]]
                    assert late, f"{row} is batched after its listener was forgotten"

    def check(self) -> None:
        """AssertionError if anything is wrong."""
        if self._simulation.failures:
            raise AssertionError("a process ended") from self._simulation.failures[0]
        for watch in self._simulation.watches:
            if watch.losses:
                raise watch.losses[0]
        schedule = self._simulation.schedule
        oracle = Oracle.of(
            self.entries(),
            EPISODES,
            lateness_s=schedule.lateness_s,
            dedup_window=schedule.dedup_window,
            owner=lambda user: partition_of(user.encode(), PARTITIONS),
            forgotten=self._left_out,
            forgettings={n: self._forgettings(n) for n in range(PARTITIONS)},
        )
        self._check_forgetting()
        self._check_batches(oracle)
        if ANOMALIES in schedule.stages:
            self._check_anomalies(oracle)
        for moment in self._simulation.moments:
            self._check_moment(oracle, moment)
        for stage in schedule.stages:
            if stage in CHECKS:
                CHECKS[stage](oracle, self.outputs)

    def _check_anomalies(self, oracle: Oracle) -> None:
        """At the end and at each moment: what was read has been judged, and told."""
        windows = [
            (message.partition, message.offset, self._told(message))
            for message in self._simulation.logs.records(WINDOWS)
        ]
        own = [(partition, told) for partition, _, told in windows]
        check_headers(oracle.verdicts, own, oracle.lateness, oracle.partitions)
        followers = {number: Follower(oracle.partitions) for number in range(PARTITIONS)}
        expected: dict[Any, Any] = {}
        for number, follower in followers.items():
            expected |= follower.follow(told for partition, told in own if partition == number)
        shown = readers.anomalies(self.outputs("episode-anomalies"))
        readers.agree_on_anomalies(shown, expected)
        if all(follower.waited_for_all for follower in followers.values()):
            oracle.check_anomalies(self.outputs)
        for moment in self._simulation.moments:
            then = readers.anomalies(self._outputs_at(moment)("episode-anomalies"))
            for (_, number), end in moment.committed[ANOMALIES].items():
                read = (told for p, offset, told in windows if p == number and offset < end)
                missing = Follower(oracle.partitions).follow(read).keys() - then.keys()
                assert not missing, f"{missing} are acknowledged and not told"

    def _told(self, message: Message) -> Told:
        headers = [message.header(name) for name in ("closed", "logged", "quiet")]
        told = [{int(n): v for n, v in json.loads(one or b"{}").items()} for one in headers]
        return Told(self._content(message), *told)

    def _outputs_at(self, moment: Moment) -> Outputs:
        return lambda topic: [
            (message.partition, self._content(message))
            for message in self._simulation.logs.records(topic)
            if message.offset < moment.ends[topic, message.partition]
        ]

    def _check_moment(self, oracle: Oracle, moment: Moment) -> None:
        """What was acknowledged then was there then."""
        outputs = self._outputs_at(moment)
        for watch in self._simulation.watches:
            for partition, verdicts in oracle.verdicts.items():
                committed = moment.committed[watch.stage].get((BATCHES, partition), 0)
                if watch.stage in moments.CHECKS and committed:
                    reached = watch.reached[BATCHES, partition][committed - 1]
                    acknowledged = tables.up_to(verdicts, reached)
                    if acknowledged:
                        check = moments.CHECKS[watch.stage]
                        check(oracle, outputs, partition, acknowledged)

    def _check_batches(self, oracle: Oracle) -> None:
        """Every record is in one of four places, once."""
        once: dict[int, dict[int, Any]] = defaultdict(dict)
        for partition, rows in self.outputs("user-event-batches"):
            for row in rows:
                known = once[partition].setdefault(row["offset"], row)
                assert known == row, f"two rows of {partition}@{row['offset']}"
        dead = {
            (
                int(m.header("__connect.errors.partition") or b""),
                int(m.header("__connect.errors.offset") or b""),
            )
            for m in self._simulation.logs.records("user-events.dlq")
        }
        shown = [(p, [rows[o] for o in sorted(rows)]) for p, rows in once.items()]
        oracle.check_batches(lambda _: shown, sorted(dead))
        # Written and handed over are all there is.
        handed = {
            tuple(told.decode().rpartition("/")[2].split(":"))
            for m in self._simulation.logs.records("user-events")
            if (told := m.header(ORIGIN)) is not None
        }
        moved = {(str(n), str(o)) for n, found in oracle.sorted.items() for o in found.moved}
        assert handed == moved, f"handed over {handed}, to be moved {moved}"
