"""Keeps MongoDB in step with the log by idempotent batched upserts.

In: every topic that MongoDB shows; RECORDS and DAYS say which collection it becomes, the handlers
of their own what is more than that. Out: documents.

Every write says the whole of what it is about, so that records may come again. Documents merged
from several source partitions are read back once a batch, unless this process wrote them lately
itself. Where all records of a document come through one Kafka partition (`engagement_windows`), it
has one writer. Totals, days and rolling windows have one for each worker, since their parts come
by source partition: `core.day_documents` and `mongo.rolling` say how these agree. `mongo.expiry`
says how what is old leaves.

Bad input: a message without a record or rows is dead-lettered. While the server is away, handlers
wait; what it has lost is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, TypeVar

import polars as pl

from streams.kafka.message import Message
from streams.runtime.context import Context, Handler, decode_all
from streams.serving.core import day_documents, documents, total_documents
from streams.serving.core.day_documents import DayPart, day_id
from streams.serving.core.documents import Document
from streams.serving.core.total_documents import hour_id
from streams.serving.mongo import expiry
from streams.serving.mongo.document_cache import DocumentCache
from streams.serving.mongo.expiry import Expiry, Kind
from streams.serving.mongo.mongo import MongoSink
from streams.serving.mongo.rolling import RollingPart, RollingWindows
from topology.model import ArrowTopic, AvroTopic, Topic
from topology.topics.engagement import (
    ENGAGEMENT_TOTALS,
    ENGAGEMENT_WINDOWS,
    EPISODE_ANOMALIES,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    ROLLING_WINDOWS,
    TABLE_PROGRESS,
    TRENDING_EPISODES,
)
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.operations import (
    SERVED_GENERATION,
    SERVED_VERSION,
    STAGE_FAILURES,
    TABLE_GENERATIONS,
)
from topology.topics.recommendation import (
    GENERATION_REFUSALS,
    MODEL_GENERATIONS,
    MODEL_METRICS,
    RECOMMENDATIONS,
)
from topology.topics.similarity import EPISODE_NEIGHBOURS

T = TypeVar("T")

WINDOWS_REMEMBERED = 20_000
DOCUMENTS_PER_WRITE = 1_000
HOURS_PER_WRITE = 50
TITLES_REMEMBERED = 100_000

CONFLATE_S = 1.0
"""Days change with every event and nobody waits for them: one write for what comes together."""

ROLLING_EVERY_S = 1.0
ROLLING_SHARE = 0.1
"""Large rolling windows are written less often, so that they take this share of the time."""

LONGEST_REST_S = 30.0

COUNTED_BY = "track_engagement"
"""The stage whose progress says how old a document is."""

EXPIRE_EVERY_S = 60.0

Days = Mapping[tuple[str, date], Mapping[str, DayPart]]
"""Episode and day -> the newest part of each source partition."""


@dataclass(frozen=True)
class RecordTable:
    """A collection that has the newest record of each key of a topic; a tombstone removes it."""

    topic: AvroTopic
    collection: str
    to_document: Callable[[Any], Document]
    max_batch: int = 512
    linger_s: float = 0.0


EPISODES = RecordTable(EPISODE_METADATA, "episodes", documents.episode_document)
RECORDS = (
    RecordTable(
        RECOMMENDATIONS, "final_recommendations", documents.recommendation_document, max_batch=256
    ),
    RecordTable(EPISODE_NEIGHBOURS, "episode_neighbours", documents.neighbours_document),
    RecordTable(MODEL_METRICS, "model_metrics", documents.metric_document),
    RecordTable(
        MODEL_GENERATIONS, "model_generations", documents.generation_document, max_batch=64
    ),
    RecordTable(
        GENERATION_REFUSALS, "generation_refusals", documents.generation_document, max_batch=64
    ),
    RecordTable(SERVED_GENERATION, "served_generation", documents.choice_document, max_batch=64),
    RecordTable(STAGE_FAILURES, "stage_failures", documents.failure_document, max_batch=64),
    RecordTable(
        TABLE_GENERATIONS, "table_generations", documents.table_generation_document, max_batch=64
    ),
    RecordTable(SERVED_VERSION, "served_version", documents.served_version_document, max_batch=64),
    RecordTable(EPISODE_ANOMALIES, "episode_anomalies", documents.anomaly_document),
    RecordTable(TABLE_PROGRESS, "table_progress", documents.progress_document, linger_s=CONFLATE_S),
)


@dataclass(frozen=True)
class DayTable:
    """What a topic says of `episode_days`: the parts in its rows, and what they change."""

    topic: ArrowTopic
    parts: Callable[[pl.DataFrame], Days]
    changes: Callable[[Mapping[str, Document], Days], dict[str, Document]]


DAYS = (
    DayTable(EPISODE_DAYS, day_documents.count_parts, day_documents.count_changes),
    DayTable(EPISODE_RETENTION, day_documents.retention_parts, day_documents.retention_changes),
)


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    MongoServer(context)


class MongoServer:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        settings = context.settings
        self._sink = sink = MongoSink(settings, context.stage)
        self._windows = DocumentCache(sink, "engagement_windows", WINDOWS_REMEMBERED)
        self._titles = DocumentCache(
            sink, EPISODES.collection, TITLES_REMEMBERED, ("title", "show_title")
        )
        self._rolling = RollingWindows(sink, settings.event_partitions, self._titles.get)
        self._expiry = {
            kind: Expiry(sink, context.clock, kind, COUNTED_BY, settings.event_partitions, keep)
            for kind, keep in (
                (expiry.MINUTES, settings.mongo_keep_minutes),
                (expiry.DAYS, timedelta(days=settings.mongo_keep_days)),
            )
        }
        for forget in (self._windows.forget, self._rolling.forget, sink.forget_marks):
            context.on_rebalance(forget)
        for table in RECORDS:
            handler = partial(self._handle_records, table)
            self._serve(table.topic, handler, table.max_batch, table.linger_s)
        for days in DAYS:
            self._serve(days.topic, partial(self._handle_days, days), linger_s=CONFLATE_S)
        self._serve(EPISODE_METADATA, self._handle_episode_metadata, EPISODES.max_batch)
        self._serve(ENGAGEMENT_WINDOWS, self._handle_engagement_windows)
        self._serve(ENGAGEMENT_TOTALS, self._handle_engagement_totals)
        self._serve(ROLLING_WINDOWS, self._handle_rolling_windows)
        self._serve(TRENDING_EPISODES, self._handle_trending_episodes, max_batch=512)
        context.timer(ROLLING_EVERY_S)(self._write_rolling_windows)
        context.timer(EXPIRE_EVERY_S)(self._expire)

    def _serve(
        self, topic: Topic, handler: Handler, max_batch: int = 64, linger_s: float = 0.0
    ) -> None:
        """Let messages be acknowledged once the server has on its disk what was made of them."""

        async def marked(messages: list[Message]) -> None:
            await handler(messages)
            await self._sink.mark(messages)

        self._context.agent(
            topic, max_batch=max_batch, linger_s=linger_s, confirm=self._sink.confirm
        )(marked)

    # -- records -------------------------------------------------------------------------------

    async def _handle_records(self, table: RecordTable, messages: list[Message]) -> None:
        await self._upsert(table, messages)

    async def _handle_episode_metadata(self, messages: list[Message]) -> None:
        changed = await self._upsert(EPISODES, messages)
        keys = {message.key_text for message in messages}
        self._titles.forget({document["_id"] for document in changed} | keys)
        self._rolling.forget_shows(document["show_id"] for document in changed)

    async def _upsert(self, table: RecordTable, messages: list[Message]) -> list[Document]:
        """Write the newest document of each key, and remove those whose newest is a tombstone."""
        tombstones = [m for m in messages if m.value is None and m.key]
        removed = {message.key_text: message.offset for message in tombstones}
        records = [m for m in messages if not (m.value is None and m.key)]
        changed = documents.newest(
            table.to_document(record)
            for message, record in await decode_all(self._context, records)
            if message.offset > removed.get(message.key_text, -1)
        )
        if (field := expiry.DAYS.dated.get(table.collection)) is not None:
            before = await self._expiry[expiry.DAYS].before()
            changed = [document for document in changed if document[field] >= before]
        await self._sink.replace(table.collection, changed)
        gone = removed.keys() - {document["_id"] for document in changed}
        await self._sink.delete(table.collection, gone)
        return changed

    async def _handle_trending_episodes(self, messages: list[Message]) -> None:
        records = [record for _, record in await decode_all(self._context, messages)]
        scopes = {record["scope"] for record in records}
        stored = await self._sink.find("trending_episodes", scopes)
        merged = documents.merge_trending(stored, records)
        ids = {place["episode_id"] for document in merged for place in document["episodes"]}
        titles = await self._titles.get(ids)
        titled = [documents.with_titles(document, titles) for document in merged]
        await self._sink.replace("trending_episodes", titled)

    # -- windows -------------------------------------------------------------------------------

    async def _handle_engagement_windows(self, messages: list[Message]) -> None:
        if (told := await self._rows(messages, "bucket")) is None:
            return
        rows = documents.newest_rows(told)
        # Years of imported history touch a document a minute: small writes leave the loop free.
        for some in rows.iter_slices(DOCUMENTS_PER_WRITE):
            stored = await self._windows.get(some["_id"].unique().to_list())
            changed = documents.merge_windows(stored, some)
            await self._sink.replace("engagement_windows", changed)
            self._windows.put(changed)

    async def _handle_engagement_totals(self, messages: list[Message]) -> None:
        if (rows := await self._rows(messages, "bucket")) is None:
            return
        told = total_documents.total_parts(rows)
        for hours in _slices(list(told), HOURS_PER_WRITE):
            some = {hour: told[hour] for hour in hours}
            ids = [hour_id(hour) for hour in hours]
            await self._agree("engagement_totals", ids, total_documents.total_changes, some)

    async def _handle_rolling_windows(self, messages: list[Message]) -> None:
        told = await decode_all(self._context, messages)
        await self._rolling.put({m.partition: RollingPart(m.offset, rows) for m, rows in told})

    async def _write_rolling_windows(self) -> None:
        clock = self._context.clock
        began = clock.monotonic()
        await self._rolling.refresh()
        took = clock.monotonic() - began
        await clock.sleep(min(took / ROLLING_SHARE - took, LONGEST_REST_S))

    # -- days ----------------------------------------------------------------------------------

    async def _handle_days(self, table: DayTable, messages: list[Message]) -> None:
        if (rows := await self._rows(messages, "day", expiry.DAYS)) is None:
            return
        told = table.parts(rows)
        for keys in _slices(list(told), DOCUMENTS_PER_WRITE):
            some = {key: told[key] for key in keys}
            ids = [day_id(*key) for key in keys]
            await self._agree("episode_days", ids, table.changes, some)

    async def _agree(
        self,
        collection: str,
        ids: Sequence[str],
        changes: Callable[[Mapping[str, Document], T], Mapping[str, Document]],
        told: T,
    ) -> None:
        """Write what documents lack of what was told, until they hold all of it: other workers
        write them as well."""
        while missing := changes(await self._sink.find(collection, ids), told):
            await self._sink.set_fields(collection, missing)

    # -- what is old ---------------------------------------------------------------------------

    async def _expire(self) -> None:
        for expiring in self._expiry.values():
            await expiring.refresh()

    async def _rows(
        self, messages: list[Message], dated: str, kind: Kind = expiry.MINUTES
    ) -> pl.DataFrame | None:
        """The rows of messages that have not expired, by their column ``dated``; None if no
        message has any."""
        frames: list[pl.DataFrame]
        frames = [rows for _, rows in await decode_all(self._context, messages)]
        if not frames:
            return None
        before = pl.lit(await self._expiry[kind].before()).cast(frames[0].schema[dated])
        return pl.concat(frames).filter(pl.col(dated) >= before)


def _slices(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
