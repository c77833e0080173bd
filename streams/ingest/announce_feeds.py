"""Subscribes to what the settings name, so that all feeds are followed by way of one topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from streams.ingest.core.episodes import web_address
from streams.ingest.core.subscriptions import changes_of_settings
from streams.kafka.message import Message
from streams.runtime.context import Context, keyed_records

log = logging.getLogger(__name__)

TICK_S = 60.0


def register(context: Context) -> None:
    """Once, at the start: announce what the settings name, and end what they named before."""
    settings = context.settings
    known: dict[str, Any] = {}
    announced = False

    def handle_feeds(messages: Sequence[Message]) -> None:
        for url, record in keyed_records(context, messages):
            if record is None:
                known.pop(url, None)
            else:
                known[url] = record

    context.broadcast("feeds", handle_feeds)

    @context.timer(TICK_S)
    async def announce_feeds() -> None:
        nonlocal announced
        if announced:
            return
        announced = True
        for url in settings.rss_feeds:
            if not web_address(url):
                log.error("RSS_FEEDS names %r, which is no address of a feed", url)
        urls = filter(web_address, settings.rss_feeds)
        index = bool(settings.podcastindex_key.get_secret_value())
        for url, record in changes_of_settings(known, urls, index).items():
            await context.send("feeds", record, key=url)
            log.info("%s is %s", url, "followed" if record else "no longer followed")
