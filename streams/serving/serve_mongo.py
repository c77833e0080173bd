"""serve_mongo: keeps MongoDB in step with the log by idempotent batched upserts.

Every write says the whole of what it is about, so that records may come again. Documents merged
from several source partitions are read back once a batch, unless this process wrote them lately
itself. Where all records of a document come through one Kafka partition (`engagement_windows`), it
has one writer. Days and rolling windows have one for each worker, since their parts come by source
partition: `day_documents` and `sinks.rolling` say how these agree. `sinks.expiry` says how what is
old leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import polars as pl

from streams.kafka.message import Message
from streams.runtime.context import Context, Handler, decode_all
from streams.serving.core import day_documents, documents
from streams.serving.core.day_documents import DayPart, day_id
from streams.serving.core.documents import Document
from streams.serving.mongo.document_cache import DocumentCache
from streams.serving.mongo.expiry import Expiry
from streams.serving.mongo.mongo import MongoSink
from streams.serving.mongo.rolling import RollingPart, RollingWindows

WINDOWS_REMEMBERED = 20_000
DOCUMENTS_PER_WRITE = 1_000
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
DayChanges = Callable[[Mapping[str, Document], Days], dict[str, Document]]


def register(context: Context) -> None:
    """Declare one agent for each topic that MongoDB shows."""
    sink = MongoSink(context.settings, context.stage)
    windows = DocumentCache(sink, "engagement_windows", WINDOWS_REMEMBERED)
    titles = DocumentCache(sink, "episodes", TITLES_REMEMBERED, ("title", "show_title"))
    rolled = RollingWindows(sink, context.settings.event_partitions, titles.get)
    expiry = Expiry(
        sink,
        context.clock,
        COUNTED_BY,
        context.settings.event_partitions,
        context.settings.mongo_keep_days,
    )
    for forget in (windows.forget, rolled.forget, sink.forget_marks):
        context.on_rebalance(forget)

    async def upsert(
        messages: list[Message],
        collection: str,
        to_document: Callable[[Any], Document],
        is_kept: Callable[[Document], bool] = lambda _: True,
    ) -> list[Document]:
        """Write the newest document of each key; a tombstone (key without value) removes it."""
        removed = {_key(m): m.offset for m in messages if m.value is None and m.key}
        kept = [m for m in messages if not (m.value is None and m.key)]
        changed = documents.newest(
            to_document(record)
            for message, record in await decode_all(context, kept)
            if message.offset > removed.get(_key(message), -1)
        )
        changed = list(filter(is_kept, changed))
        gone = set(removed) - {document["_id"] for document in changed}
        await sink.replace(collection, changed)
        await sink.delete(collection, gone)
        return changed

    def serve(
        topic: str, max_batch: int = 64, linger_s: float = 0.0
    ) -> Callable[[Handler], Handler]:
        """An agent whose messages are acknowledged once the server has them on its disk."""

        def decorate(handler: Handler) -> Handler:
            async def marked(messages: list[Message]) -> None:
                await handler(messages)
                await sink.mark(messages)

            return context.agent(
                topic, max_batch=max_batch, linger_s=linger_s, confirm=sink.confirm
            )(marked)

        return decorate

    @serve("recommendations", max_batch=256)
    async def handle_recommendations(messages: list[Message]) -> None:
        await upsert(messages, "final_recommendations", documents.recommendation_document)

    @serve("episode-metadata", max_batch=512)
    async def handle_episode_metadata(messages: list[Message]) -> None:
        changed = await upsert(messages, "episodes", documents.episode_document)
        titles.forget({document["_id"] for document in changed} | set(map(_key, messages)))
        rolled.forget_shows(document["show_id"] for document in changed)

    @serve("model-metrics", max_batch=512)
    async def handle_model_metrics(messages: list[Message]) -> None:
        await upsert(messages, "model_metrics", documents.metric_document)

    @serve("table-generations")
    async def handle_table_generations(messages: list[Message]) -> None:
        await upsert(messages, "table_generations", documents.table_generation_document)

    @serve("engagement-windows")
    async def handle_engagement_windows(messages: list[Message]) -> None:
        frames = [rows for _, rows in await decode_all(context, messages)]
        if not frames:
            return
        kept = pl.concat(frames).filter(pl.col("bucket") >= await expiry.before())
        rows = documents.newest_rows(kept)
        # Years of imported history touch a document a minute: small writes leave the loop free.
        for some in rows.iter_slices(DOCUMENTS_PER_WRITE):
            stored = await windows.get(some["_id"].unique().to_list())
            changed = documents.merge_windows(stored, some)
            await sink.replace("engagement_windows", changed)
            windows.put(changed)

    @serve("rolling-windows")
    async def handle_rolling_windows(messages: list[Message]) -> None:
        good = await decode_all(context, messages)
        await rolled.take({m.partition: RollingPart(m.offset, rows) for m, rows in good})

    @context.timer(ROLLING_EVERY_S)
    async def write_rolling_windows() -> None:
        began = context.clock.monotonic()
        await rolled.refresh()
        took = context.clock.monotonic() - began
        await context.clock.sleep(min(took / ROLLING_SHARE - took, LONGEST_REST_S))

    async def kept_days(frames: list[pl.DataFrame]) -> pl.DataFrame:
        before = await expiry.before()
        return pl.concat(frames).filter(pl.col("day") >= before.date())

    async def upsert_days(told: Days, changes: DayChanges) -> None:
        keys = list(told)
        for start in range(0, len(keys), DOCUMENTS_PER_WRITE):
            some = {key: told[key] for key in keys[start : start + DOCUMENTS_PER_WRITE]}
            ids = [day_id(*key) for key in some]
            while missing := changes(await sink.find("episode_days", ids), some):
                await sink.set_fields("episode_days", missing)

    @serve("episode-days", linger_s=CONFLATE_S)
    async def handle_episode_days(messages: list[Message]) -> None:
        frames = [rows for _, rows in await decode_all(context, messages)]
        if frames:
            told = day_documents.count_parts(await kept_days(frames))
            await upsert_days(told, day_documents.count_changes)

    @serve("episode-retention", linger_s=CONFLATE_S)
    async def handle_episode_retention(messages: list[Message]) -> None:
        frames = [rows for _, rows in await decode_all(context, messages)]
        if frames:
            told = day_documents.retention_parts(await kept_days(frames))
            await upsert_days(told, day_documents.retention_changes)

    @serve("episode-anomalies", max_batch=512)
    async def handle_episode_anomalies(messages: list[Message]) -> None:
        before = await expiry.before()
        await upsert(
            messages,
            "episode_anomalies",
            documents.anomaly_document,
            lambda anomaly: anomaly["at"] >= before,
        )

    @context.timer(EXPIRE_EVERY_S)
    async def expire() -> None:
        await expiry.refresh()

    @serve("table-progress", max_batch=512, linger_s=CONFLATE_S)
    async def handle_table_progress(messages: list[Message]) -> None:
        await upsert(messages, "table_progress", documents.progress_document)

    @serve("trending-episodes", max_batch=512)
    async def handle_trending_episodes(messages: list[Message]) -> None:
        records = [record for _, record in await decode_all(context, messages)]
        stored = await sink.find("trending_episodes", {record["scope"] for record in records})
        merged = documents.merge_trending(stored, records)
        ids = {place["episode_id"] for document in merged for place in document["episodes"]}
        known = await titles.get(ids)
        await sink.replace(
            "trending_episodes", [documents.with_titles(document, known) for document in merged]
        )


def _key(message: Message) -> str:
    return message.key.decode(errors="replace") if message.key else ""
