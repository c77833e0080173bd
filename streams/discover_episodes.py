"""Finds trending and new episodes and announces them on `episode-ids`.

What was announced is remembered within the process only: after a restart episodes are announced
once more, and everything downstream takes a repeat for what it is.
"""

from __future__ import annotations

import logging

from streams.context import Context
from streams.core.recent import RecentKeys
from streams.politeness import report_hosts
from streams.sources.base import Source, SourceError
from streams.sources.configured import configured_sources

log = logging.getLogger(__name__)

REMEMBERED = 200_000


def register(context: Context) -> None:
    """Ask every source at the start and then every `DISCOVER_INTERVAL_S` seconds."""
    report_hosts(context)
    sources = configured_sources(context.settings)
    announced = RecentKeys(REMEMBERED)

    @context.timer(context.settings.discover_interval_s)
    async def discover_episodes() -> None:
        for source in sources.values():
            before = len(announced)
            try:
                await _announce(context, source, announced)
            except SourceError as error:
                log.warning("%s: discovery failed, next try in time: %s", source.name, error)
            finally:
                await source.close()
            if found := len(announced) - before:
                log.info("%s: %d new episodes", source.name, found)


async def _announce(context: Context, source: Source, announced: RecentKeys) -> None:
    async for refs in source.discover():
        for ref in refs:
            if ref["episode_id"] not in announced:
                await context.send("episode-ids", ref, key=ref["episode_id"])
            announced.add(ref["episode_id"])
