"""Rebuilds the live tables from the first offset, beside the running ones, and promotes them.

What is compared: `engagement-windows` as the log has it, `engagement_windows` as MongoDB serves
it, and `user-episode-daily`. If every digest agrees, the new generation takes the place of the
served one, which is kept beside it; if not, it is the new one that lies beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from confluent_kafka import TopicPartition

from streams.engagement.core.engagement import Engagement
from streams.events.batch_progress import KafkaEventLogs, event_source, to_chunk
from streams.events.core.batching import PartitionBatcher, accounted_to
from streams.events.core.events import EventDecoder
from streams.events.core.sequencing import forgotten_listeners
from streams.kafka.clients import DeliveryError, reader, send_all
from streams.kafka.log_reader import Record, read_all
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.operations.core import rebuild
from streams.operations.core.rebuild import Comparison, Rebuilt, Replay
from streams.serving.mongo.generations import WindowGenerations
from topology.graph import app_id, build_graph
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_WINDOWS, USER_EPISODE_DAILY
from topology.topics.events import FORGOTTEN_LISTENERS, USER_EVENT_BATCHES, USER_EVENTS
from topology.topics.operations import TABLE_GENERATIONS

LIVE = "live"
"""Name under which the generation of the live tables is published."""

SERVED = "engagement_windows"
STALL_S = 60.0
TIMEOUT_S = 60.0

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with the events replayed so far and the events there are."""


class RebuildError(RuntimeError):
    """The rebuild cannot be done; nothing live was touched."""


@dataclass(frozen=True)
class Live:
    """The live tables as they are, and how far each row has counted."""

    window_parts: pl.DataFrame | None
    """None where retention has taken the beginning of the topic: it then is no whole table."""
    counted: pl.DataFrame
    """How far each document of MongoDB has counted each source partition (`document_parts`)."""
    shown: pl.DataFrame
    """What the documents of MongoDB show (`document_windows`)."""
    kept_from: datetime
    """MongoDB has no documents of minutes before this time any more."""
    daily: rebuild.LiveDaily


@dataclass(frozen=True)
class RebuildResult:
    """What a rebuild found and did.

    ``events``, ``refused``, ``repeats`` and ``moved`` (handed over to another partition) are
    those of `user-events` that were replayed; ``generation`` is the table generation made, and
    ``promoted`` whether it is served now.
    """

    comparisons: list[Comparison]
    generation: int
    promoted: bool
    events: int
    refused: int
    repeats: int
    moved: int
    seconds: float
    beside: str
    """The collection of the generation that is not served: the one before, or the refused one."""


class Rebuilder:
    """One rebuild of the live tables out of `user-events`."""

    def __init__(self, settings: Settings, say: Say, progress: Progress):
        self._settings = settings
        self._say = say
        self._progress = progress
        self._graph = build_graph(settings.event_partitions)
        self._registry = open_registry(settings)
        self._wire = Wire(self._graph, self._registry)
        self._logs = KafkaEventLogs(settings.kafka_bootstrap_servers)
        self._served = WindowGenerations(settings, self._graph.collections[SERVED])

    def close(self) -> None:
        """Give back the connections to the log and to MongoDB."""
        self._logs.close()
        self._served.close()

    def run(self) -> RebuildResult:
        """Rebuild, compare, promote. RebuildError if the live stages do not keep up."""
        current = self._current_generation()
        baselines = self._baselines()
        live = self._read_live()
        started = time.monotonic()
        rebuilt, replays = self._replay(baselines, _reach(baselines, live))
        seconds = time.monotonic() - started
        served, moving = rebuilt.parts_at(live.counted)
        served = served.filter(pl.col("bucket") >= live.kept_from)
        comparisons = self._compare(rebuilt, served, moving, live)
        promoted = all(comparison.agrees for comparison in comparisons)
        if promoted:
            beside = self._served.keep_served(current)
            self._served.take_over(live.counted, served)
            self._publish(current + 1, comparisons, baselines)
        else:
            beside = self._served.keep(current + 1, served)
        return RebuildResult(
            comparisons,
            generation=current + 1,
            promoted=promoted,
            events=sum(replay.events for replay in replays),
            refused=sum(replay.refused for replay in replays),
            repeats=sum(replay.repeats for replay in replays),
            moved=sum(replay.moved for replay in replays),
            seconds=seconds,
            beside=beside,
        )

    # -- the live side -------------------------------------------------------------------------

    def _baselines(self) -> dict[int, int]:
        """Source partition -> last offset that is in the live tables for certain.

        Returns once they hold every event that was in the log when it was called.
        """
        wanted = self._logs.ends(USER_EVENTS.name)
        self._wait_for(
            "batch_events",
            lambda: sum(max(0, wanted[p] - 1 - at) for p, at in self._batched().items()),
            f"events of {USER_EVENTS.name}",
        )
        baselines, ends = self._batched(), self._logs.ends(USER_EVENT_BATCHES.name)
        self._wait_for_group("track_engagement", USER_EVENT_BATCHES.name, ends)
        self._wait_for_group("track_listening", USER_EVENT_BATCHES.name, ends)
        self._wait_for_group(
            "serve_mongo", ENGAGEMENT_WINDOWS.name, self._logs.ends(ENGAGEMENT_WINDOWS.name)
        )
        return baselines

    def _batched(self) -> dict[int, int]:
        """Source partition -> last offset that its batches account for; -1 if there are none."""
        baselines = {}
        for partition in self._logs.partitions(USER_EVENT_BATCHES.name):
            last = self._logs.last(USER_EVENT_BATCHES.name, partition)
            end = accounted_to(last.headers() or ()) if last is not None else 0
            baselines[partition] = end - 1
        return baselines

    def _wait_for_group(self, stage: str, topic: str, ends: dict[int, int]) -> None:
        """Return once a stage has acknowledged ``topic`` up to ``ends``."""
        group = reader(self._settings.kafka_bootstrap_servers, app_id(self._graph.stages[stage]))
        places = [TopicPartition(topic, partition) for partition, end in ends.items() if end]

        def lag() -> int:
            done = group.committed(places, timeout=TIMEOUT_S)
            return sum(max(0, ends[place.partition] - max(0, place.offset)) for place in done)

        try:
            self._wait_for(stage, lag, f"messages of {topic}")
        finally:
            group.close()

    def _wait_for(self, stage: str, lag: Callable[[], int], what: str) -> None:
        """Return once there is no lag; RebuildError if it does not shrink for STALL_S."""
        smallest, moved_at = None, time.monotonic()
        while left := lag():
            if smallest is None or left < smallest:
                smallest, moved_at = left, time.monotonic()
                self._say(f"{stage} has {left} {what} to go")
            elif time.monotonic() - moved_at > STALL_S:
                raise RebuildError(
                    f"{stage} has not moved for {STALL_S:.0f} s with {left} {what} to go: the "
                    f"live tables must be running to be compared."
                )
            time.sleep(0.2)

    def _read_live(self) -> Live:
        daily = rebuild.LiveDaily()
        self._read(
            USER_EPISODE_DAILY.name,
            lambda message: daily.apply(self._wire.decode(USER_EPISODE_DAILY.name, message.value)),
        )
        lows = [
            self._logs.bounds(ENGAGEMENT_WINDOWS.name, partition)[0]
            for partition in range(self._graph.topics[ENGAGEMENT_WINDOWS.name].partitions)
        ]
        windows = self._window_parts() if max(lows) == 0 else None
        batches = [
            (rebuild.document_parts(some), rebuild.document_windows(some))
            for some in self._served.batches()
        ]
        # Asked afterwards: nothing that was there may have been removed since.
        kept_from = self._served.kept_from()
        kept = pl.col("bucket") >= kept_from
        counted = pl.concat([rebuild.document_parts([]), *(parts for parts, _ in batches)])
        shown = pl.concat([rebuild.document_windows([]), *(rows for _, rows in batches)])
        return Live(windows, counted.filter(kept), shown.filter(kept), kept_from, daily)

    def _window_parts(self) -> pl.DataFrame:
        newest = rebuild.newest_sum()
        self._read(
            ENGAGEMENT_WINDOWS.name,
            lambda message: newest.put(self._wire.decode(ENGAGEMENT_WINDOWS.name, message.value)),
        )
        return newest.total()

    def _read(self, topic: str, apply: Callable[[Message], None]) -> None:
        """Every record of a topic, in the order of each partition."""
        servers = self._settings.kafka_bootstrap_servers
        read_all(servers, [topic], lambda batch: _each(apply, batch))

    def _current_generation(self) -> int:
        found = [1]

        def apply(message: Message) -> None:
            record = self._wire.decode(TABLE_GENERATIONS.name, message.value)
            if record["table"] == LIVE:
                found.append(record["generation"])

        self._read(TABLE_GENERATIONS.name, apply)
        return found[-1]

    # -- the new side --------------------------------------------------------------------------

    def _replay(
        self, baselines: dict[int, int], until: dict[int, int]
    ) -> tuple[Rebuilt, list[Replay]]:
        """Fold every event of the log up to ``until`` anew, partition after partition."""
        decoder = EventDecoder(USER_EVENTS.name, self._registry)
        places = event_source(self._settings, self._graph)
        total, done = sum(offset + 1 for offset in until.values()), 0
        replays = []
        for partition, last in until.items():
            window = self._settings.dedup_window
            # What was in batches when its listener was forgotten has been counted, and stays so.
            forgotten = forgotten_listeners(self._logs, FORGOTTEN_LISTENERS.name, partition)
            batcher = PartitionBatcher(partition, 0, window, decoder, places, forgotten=forgotten)
            state = Engagement(self._settings.allowed_lateness_s * 1000)
            replay = Replay(batcher, state, baselines[partition], last)
            for records in self._records(USER_EVENTS.name, partition, last):
                replay.feed(to_chunk(records))
                done += len(records)
                self._progress(done, total)
            replays.append(replay)
        return Rebuilt.of(replays), replays

    def _records(self, topic: str, partition: int, last: int) -> Iterator[list[Record]]:
        """The records of a partition from its first to ``last``; RebuildError if some are gone."""
        first, _ = self._logs.bounds(topic, partition)
        if first > 0 and last >= 0:
            raise RebuildError(
                f"{topic}[{partition}] begins at offset {first}: what was before it is gone, and a "
                f"rebuild would lose it."
            )
        yield from self._logs.span(topic, partition, 0, last + 1)

    def _compare(
        self, rebuilt: Rebuilt, served: pl.DataFrame, moving: pl.DataFrame, live: Live
    ) -> list[Comparison]:
        comparisons = []
        if live.window_parts is not None:
            parts, changing = rebuilt.parts_at(live.window_parts)
            comparisons.append(
                rebuild.compare(
                    ENGAGEMENT_WINDOWS.name,
                    rebuild.windows(parts),
                    rebuild.without(rebuild.windows(live.window_parts), changing),
                    rebuild.WINDOW_KEY,
                )
            )
        else:
            self._say(
                f"{ENGAGEMENT_WINDOWS.name} begins after its retention: compared as MongoDB "
                "serves it only"
            )
        comparisons.append(
            rebuild.compare(
                f"MongoDB {SERVED}",
                rebuild.windows(served),
                rebuild.without(live.shown, moving),
                rebuild.WINDOW_KEY,
            )
        )
        comparisons.append(
            rebuild.compare(
                USER_EPISODE_DAILY.name,
                rebuilt.daily_at(live.daily.reached),
                live.daily.rows(),
                rebuild.DAILY_KEY,
            )
        )
        return comparisons

    # -- the next generation -------------------------------------------------------------------

    def _publish(
        self, generation: int, comparisons: Sequence[Comparison], baselines: dict[int, int]
    ) -> None:
        record = {
            "table": LIVE,
            "generation": generation,
            "digest": rebuild.digest_of(comparisons),
            "promoted_at": datetime.now(UTC),
            "offsets": [
                {"source_partition": partition, "offset": offset}
                for partition, offset in sorted(baselines.items())
            ],
        }
        servers, topic = self._settings.kafka_bootstrap_servers, TABLE_GENERATIONS.name
        sent = {"key": LIVE.encode(), "value": self._wire.encode(topic, record)}
        try:
            send_all(servers, topic, [sent], TIMEOUT_S)
        except DeliveryError as error:
            raise RebuildError(
                "the new generation is served, but its record was not delivered"
            ) from error


def _reach(baselines: dict[int, int], live: Live) -> dict[int, int]:
    """Source partition -> the highest offset that any live row has counted."""
    reach = dict(baselines)
    frames = [live.counted]
    if live.window_parts is not None:
        frames.append(live.window_parts)
    for frame in frames:
        furthest = frame.group_by("source_partition").agg(pl.col("offset").max())
        for partition, offset in furthest.iter_rows():
            reach[partition] = max(reach[partition], offset)
    for partition, offset in live.daily.reached.items():
        reach[partition] = max(reach[partition], offset)
    return reach


def _each(apply: Callable[[Message], None], messages: Sequence[Message]) -> None:
    for message in messages:
        apply(message)


def drop_kept_generations(settings: Settings) -> list[str]:
    """Remove the collections that earlier rebuilds left beside the served one; give their names."""
    graph = build_graph(settings.event_partitions)
    generations = WindowGenerations(settings, graph.collections[SERVED])
    try:
        return generations.drop_kept()
    finally:
        generations.close()
