"""Verifies a running instance: the same numbers, by ways that share no code, must agree.

| one way | against |
|---|---|
| totals of minutes, as MongoDB serves them | the sum of its minutes over all episodes |
| days, as MongoDB serves them | the sum of their minutes |
| finished minutes and days in Delta | what MongoDB serves of them |
| who heard how much on a day, in Delta | the sum of the events in Delta |
| minutes, as MongoDB serves them | the raw log, counted anew record by record |

Stores do not stand still meanwhile: parts are compared where they have counted equally far
(`core.verification`). What differs is looked at once more when everything that was told has been
served; only what differs again is a violation.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

from confluent_kafka import TopicPartition
from pymongo import MongoClient

from schemas.metrics import EVENT_SUMS
from streams.kafka.clients import reader
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from streams.operations.core.verification import (
    MINUTE,
    Findings,
    Minute,
    Part,
    Watermarks,
    days_against_minutes,
    delta_against,
    listening_against_events,
    totals_against_minutes,
)
from streams.operations.history_parts import EPISODE_DAY_METRICS, HistoryParts
from streams.operations.raw_log import RawLog
from streams.operations.served_parts import HOUR, ServedParts, midnight
from streams.serving.mongo import expiry
from topology.graph import app_id, build_graph
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_TOTALS, ENGAGEMENT_WINDOWS, EPISODE_DAYS

EPISODES_AT_ONCE = 100
RECOUNTED, RECOUNTED_ROUND = 12, 1
"""Minutes of source partitions that are recounted from the log: of a whole run, and of a round of
one that goes on."""

EPISODES_OF_A_ROUND = 20
LISTENING_DAYS = 2
"""Newest days of which daily listening is compared: what came before has been."""

SERVED_S = 60.0
LOOK_EVERY_S = 0.5

CHECKS = (
    "totals against minutes",
    "days against minutes",
    "minutes in Delta against minutes",
    "days in Delta against days",
    "daily listening against events",
    "minutes against the log",
)


Report = list[Findings]
"""What each of the checks has found."""


class VerifyError(RuntimeError):
    """It cannot be verified; the sentence says why."""


@dataclass(frozen=True)
class Scope:
    """What is looked at: hours whole, days with so many episodes (all for None), and so many
    minutes of source partitions that are counted anew from the log."""

    hours: tuple[datetime, ...]
    days: tuple[date, ...]
    episodes: int | None
    recounts: int


class Verifier:
    """Compares what an instance has. ``chance`` draws the samples."""

    def __init__(self, settings: Settings, chance: random.Random):
        self._settings = settings
        self._chance = chance
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            settings.mongodb_uri.get_secret_value(), tz_aware=True, serverSelectionTimeoutMS=10_000
        )
        lateness = timedelta(seconds=settings.allowed_lateness_s)
        self._served = ServedParts(self._client[settings.mongodb_database], lateness)
        self._raw = RawLog(settings, open_registry(settings))
        self._history = HistoryParts(settings)

    def close(self) -> None:
        """Give back the connections."""
        self._raw.close()
        self._client.close()

    def run(self) -> Report:
        """Compare everything that is kept, and a sample with the log.

        VerifyError if MongoDB is not kept in step; PyMongoError and KafkaException.
        """
        hours, days = tuple(self._served.hours()), tuple(self._served.days())
        return self._confirmed(Scope(hours, days, None, RECOUNTED))

    def round(self) -> Report:
        """Compare an hour, some episodes of a day, and a minute with the log, drawn by chance.

        Raises as `run` does.
        """
        hours, days = list(self._served.hours()), list(self._served.days())
        return self._confirmed(
            Scope(
                tuple(self._chance.sample(hours, min(1, len(hours)))),
                tuple(self._chance.sample(days, min(1, len(days)))),
                EPISODES_OF_A_ROUND,
                RECOUNTED_ROUND,
            )
        )

    def _confirmed(self, scope: Scope) -> Report:
        """What a scope gives, without the violations that are gone when it is looked at again."""
        seed = self._chance.random()
        findings = self._look(scope, random.Random(seed))
        if not any(found.violations for found in findings):
            return findings
        self._wait_until_served()
        known = {(one.check, one.key) for found in findings for one in found.violations}
        again = self._look(scope, random.Random(seed))
        for found in again:
            found.violations = [one for one in found.violations if (one.check, one.key) in known]
        return again

    def _look(self, scope: Scope, chance: random.Random) -> Report:
        # Before anything else: what they say is over was told before all that is read later.
        marks = self._served.watermarks()
        findings = {check: Findings(check) for check in CHECKS}
        candidates: set[tuple[datetime, int]] = set()
        for hour in scope.hours:
            minutes, found = self._look_at_hour(hour, marks)
            _gather(findings, found)
            candidates |= {
                (key.bucket, key.partition)
                for key in minutes
                if marks.over(key.bucket + MINUTE, key.partition)
            }
        for day in scope.days:
            newest = max(marks.newest.values(), default=expiry.FOREVER).date()
            _gather(findings, self._look_at_day(day, newest, scope.episodes, chance, marks))
        drawn = chance.sample(sorted(candidates), min(scope.recounts, len(candidates)))
        _gather(findings, [self._recount(*place) for place in drawn])
        return list(findings.values())

    def _look_at_hour(
        self, hour: datetime, marks: Watermarks
    ) -> tuple[dict[Minute, Part], list[Findings]]:
        delta, newest = self._history.minutes_of(hour, hour + HOUR)
        totals, first = self._served.totals_of(hour)
        minutes = self._served.minutes_of(hour, hour + HOUR)
        if self._served.kept_from(expiry.MINUTES) > hour:
            return {}, []  # it has been removed meanwhile
        told = {
            key: part
            for key, part in minutes.items()
            if key.partition in first and key.bucket >= first[key.partition]
        }
        live = {key: dict(part.counts) for key, part in minutes.items()}
        return minutes, [
            totals_against_minutes(told, totals, marks),
            delta_against(
                "minutes in Delta against minutes",
                delta,
                live,
                newest,
            ),
        ]

    def _look_at_day(
        self,
        day: date,
        newest_day: date,
        episodes: int | None,
        chance: random.Random,
        marks: Watermarks,
    ) -> Iterator[Findings]:
        names = self._served.episodes_of(day)
        if episodes is not None:
            names = chance.sample(names, min(episodes, len(names)))
        for some in _batches(names, EPISODES_AT_ONCE):
            delta, newest = self._history.days_of(some, day)
            days, final = self._served.days_of(some, day)
            minutes = self._served.minutes_of_day(some, day)
            if midnight(day) < self._served.days_from():
                return  # it has been removed meanwhile
            yield days_against_minutes(minutes, days, marks)
            live = {
                key: {name: part.counts[name] for name in EPISODE_DAY_METRICS}
                for key, part in days.items()
                if key in final or key in delta
            }
            yield delta_against(
                "days in Delta against days",
                delta,
                live,
                newest,
            )
            if day > newest_day - timedelta(days=LISTENING_DAYS):
                daily, counted = self._history.listening_of(some, day)
                events, there = self._history.events_of(some, day)
                yield listening_against_events(daily, events, counted, there)

    def _recount(self, minute: datetime, partition: int) -> Findings:
        found = Findings("minutes against the log")
        counted = self._raw.recount(minute, partition)
        if counted is None:
            return found
        served = {
            key.episode_id: {name: part.counts[name] for name in EVENT_SUMS}
            for key, part in self._served.minutes_of(minute, minute + MINUTE).items()
            if key.partition == partition
        }
        if self._served.kept_from(expiry.MINUTES) <= minute:
            for episode in sorted(served.keys() | counted.keys()):
                key = Minute(episode, minute, partition)
                found.compare(key, served.get(episode), counted.get(episode))
        return found

    def _wait_until_served(self) -> None:
        """Return when MongoDB has all that was told when this was called. VerifyError if it does
        not get there."""
        graph = build_graph(self._settings.event_partitions)
        topics = (ENGAGEMENT_WINDOWS.name, ENGAGEMENT_TOTALS.name, EPISODE_DAYS.name)
        with LogReader(self._settings.kafka_bootstrap_servers) as logs:
            ends = {(topic, n): end for topic in topics for n, end in logs.ends(topic).items()}
        group = reader(self._settings.kafka_bootstrap_servers, app_id(graph.stages["serve_mongo"]))
        until = time.monotonic() + SERVED_S
        try:
            while any(
                place.offset < ends[place.topic, place.partition]
                for place in group.committed(
                    [TopicPartition(*place) for place, end in ends.items() if end], SERVED_S
                )
            ):
                if time.monotonic() > until:
                    raise VerifyError(
                        f"serve_mongo has not served in {SERVED_S:.0f} s what was told: it has to "
                        "run to be verified."
                    )
                time.sleep(LOOK_EVERY_S)
        finally:
            group.close()


def _gather(findings: dict[str, Findings], more: Iterable[Findings]) -> None:
    for found in more:
        known = findings[found.check]
        known.compared += found.compared
        known.violations += found.violations


def _batches(names: list[str], size: int) -> Iterator[list[str]]:
    remaining = iter(names)
    while some := list(islice(remaining, size)):
        yield some
