"""Subscribes to the feeds that the settings name, so that all are followed by way of one topic.

Comes in: `RSS_FEEDS`, the key of the index, and what `feeds` says already. Goes out: on `feeds`, a
subscription to each of them that is new or changed, and the end of those that the settings named
before. An address that is none is logged and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from streams.ingest.core.episodes import web_address
from streams.ingest.core.subscriptions import changes_of_settings
from streams.kafka.message import Message
from streams.runtime.context import Context, keyed_records
from topology.topics.ingest import FEEDS

log = logging.getLogger(__name__)

TICK_S = 60.0


def register(context: Context) -> None:
    """Read what is subscribed to already, and then announce once, at the start."""
    stage = AnnounceFeeds(context)
    context.broadcast(FEEDS, stage.handle_feeds)
    context.timer(TICK_S)(stage.announce)


class AnnounceFeeds:
    """The stage: what `feeds` says, and whether the settings have been compared with it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Any] = {}
        self._announced = False

    def handle_feeds(self, messages: Sequence[Message]) -> None:
        """Remember the subscription of each feed, by its address."""
        for url, record in keyed_records(self._context, messages):
            if record is None:
                self._known.pop(url, None)
            else:
                self._known[url] = record

    async def announce(self) -> None:
        """Say on `feeds` where the settings differ from it; only the first time."""
        if self._announced:
            return
        self._announced = True
        settings = self._context.settings
        for url in settings.rss_feeds:
            if not web_address(url):
                log.error("RSS_FEEDS names %r, which is no address of a feed", url)
        urls = filter(web_address, settings.rss_feeds)
        index = bool(settings.podcastindex_key.get_secret_value())
        for url, record in changes_of_settings(self._known, urls, index).items():
            await self._context.send(FEEDS, record, key=url)
            log.info("%s is %s", url, "followed" if record else "no longer followed")
