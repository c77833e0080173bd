"""Fetches the full record of each announced episode into `episode-metadata`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from streams.context import Context, Message, decode_all
from streams.core.recent import RecentKeys
from streams.politeness import report_hosts
from streams.sources.base import Source, SourceError
from streams.sources.configured import configured_sources

REMEMBERED = 200_000
REFS_AT_ONCE = 20


def register(context: Context) -> None:
    """Fetch refs as they come, up to 20 at once; one that fails goes to the dead-letter topic."""
    report_hosts(context)
    sources = configured_sources(context.settings)
    fetched = RecentKeys(REMEMBERED)

    @context.agent("episode-ids", max_batch=REFS_AT_ONCE)
    async def download_episodes(messages: list[Message]) -> None:
        wanted: dict[str, dict[str, tuple[Message, dict[str, Any]]]] = {}
        for message, ref in await decode_all(context, messages):
            if ref["source"] not in sources:
                error = SourceError(f"source {ref['source']!r} is not configured")
                await context.dead_letter(message, error)
            elif ref["episode_id"] not in fetched:
                wanted.setdefault(ref["source"], {})[ref["episode_id"]] = (message, ref)
        downloads = (
            _download(context, sources[name], list(group.values()))
            for name, group in wanted.items()
        )
        for done in await asyncio.gather(*downloads):
            for episode_id in done:
                fetched.add(episode_id)


async def _download(
    context: Context, source: Source, group: Sequence[tuple[Message, dict[str, Any]]]
) -> list[str]:
    """Send the records of one source's refs; the ids of those there were."""
    try:
        records = await source.fetch([ref for _, ref in group])
    finally:
        await source.close()
    done = []
    for message, ref in group:
        record = records[ref["episode_id"]]
        if isinstance(record, SourceError):
            await context.dead_letter(message, record)
        else:
            await context.send("episode-metadata", record, key=record["episode_id"])
            done.append(ref["episode_id"])
    return done
