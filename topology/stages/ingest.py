"""From a feed to an episode."""

from __future__ import annotations

from topology.model import declare_stage
from topology.tables import COPIES, CURSORS, DOWNLOAD_RETRIES, DOWNLOADS
from topology.topics.hosts import SOURCE_HOSTS
from topology.topics.ingest import EPISODE_CANDIDATES, EPISODE_IDS, EPISODE_METADATA, FEEDS

ANNOUNCE_FEEDS = declare_stage(
    "announce_feeds",
    "Subscribes to the feeds and the index that the settings name.",
    runner="faust",
    entry_point="streams.ingest.announce_feeds",
    worker="ingest",
    broadcast=(FEEDS,),
    produces=(FEEDS,),
)

DISCOVER_EPISODES = declare_stage(
    "discover_episodes",
    "Follows feeds, PodcastIndex or the demo index: finds new, edited and withdrawn episodes.",
    runner="faust",
    entry_point="streams.ingest.discover_episodes",
    worker="ingest",
    consumes=(FEEDS,),
    produces=(EPISODE_IDS, SOURCE_HOSTS),
    reaches=("index", "web"),
    tables=(CURSORS,),
)

DOWNLOAD_EPISODES = declare_stage(
    "download_episodes",
    "Fetches the full record of each episode that was found. What is not available is "
    "tried again later.",
    runner="faust",
    entry_point="streams.ingest.download_episodes",
    worker="ingest",
    consumes=(EPISODE_IDS,),
    produces=(EPISODE_CANDIDATES, SOURCE_HOSTS),
    reaches=("index", "web"),
    tables=(DOWNLOADS, DOWNLOAD_RETRIES),
)

UNITE_EPISODES = declare_stage(
    "unite_episodes",
    "Makes one episode of what several sources say of it; withdraws it when all have.",
    runner="faust",
    entry_point="streams.ingest.unite_episodes",
    worker="ingest",
    consumes=(EPISODE_CANDIDATES,),
    produces=(EPISODE_METADATA,),
    tables=(COPIES,),
)

STAGES = (
    ANNOUNCE_FEEDS,
    DISCOVER_EPISODES,
    DOWNLOAD_EPISODES,
    UNITE_EPISODES,
)
