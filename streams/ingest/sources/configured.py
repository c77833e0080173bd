"""The sources that the settings ask for."""

from __future__ import annotations

from streams.http.fetcher import GuardedFetcher
from streams.ingest.sources.base import Source
from streams.ingest.sources.podcastindex import PodcastIndexSource
from streams.ingest.sources.rss import RssSource
from streams.runtime.clock import Clock
from topology.settings import Settings


def configured_sources(settings: Settings, clock: Clock) -> dict[str, Source]:
    """Sources by the name that their refs carry: RSS, and PodcastIndex where a key is set."""
    sources: list[Source] = [RssSource(GuardedFetcher.from_settings(settings, clock))]
    if settings.podcastindex_key.get_secret_value():
        sources.insert(0, PodcastIndexSource.from_settings(settings, clock))
    return {source.name: source for source in sources}
