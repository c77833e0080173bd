"""State of the stages, each table once; the stage that owns it names it among its ``tables``.

Stage modules import the constant: ``context.table(COPIES)`` opens a keyed table,
``context.states(ENGAGEMENT_STATE, make)`` the states of a log.
"""

from __future__ import annotations

from topology.model import EVENT_PATH, Table

CURSORS = Table(
    "cursors",
    "Each subscription, when it is polled next and where it was left.",
    key="url (UTF-8)",
    value="Avro `feed_cursor`",
    partitions=2,
)

DOWNLOADS = Table(
    "downloads",
    "Which episodes of each source are there, and their identities.",
    key="episode_id (UTF-8)",
    value="`+` (there) or `-` (withdrawn), then the identity (UTF-8)",
    partitions=2,
)

DOWNLOAD_RETRIES = Table(
    "download_retries",
    "References whose episode is tried again: the retry topic of the stage.",
    key="episode_id (UTF-8)",
    value="when it is due (8 bytes, ms), then Avro `download_retry`",
    partitions=2,
)

COPIES = Table(
    "copies",
    "What each source says of an episode.",
    key="identity (UTF-8)",
    value="Avro `episode_copies`, packed by zlib, with the last offset applied",
    partitions=2,
)

TRANSCRIPT_RETRIES = Table(
    "transcript_retries",
    "Episodes whose transcript is tried again: the retry topic of the stage.",
    key="episode_id (UTF-8)",
    value="when it is due (8 bytes, ms), then Avro `transcript_retry`",
    partitions=2,
)

TRANSCRIPT_VERSIONS = Table(
    "transcript_versions",
    "For which version of each episode its transcript was told.",
    key="episode_id (UTF-8)",
    value="offset of the episode's record (8 bytes, big-endian), then a hash of "
    "its links or of its audio (8 bytes), nothing if it is withdrawn",
    partitions=2,
)

AUDIO_QUEUE = Table(
    "audio_queue",
    "Episodes whose audio is to be transcribed, or has been.",
    key="episode_id (UTF-8)",
    value="when it is due (8 bytes, ms), then Avro `audio_task`; once it is done, "
    "a hash of the audio's address (8 bytes)",
    partitions=2,
)

FINGERPRINTS = Table(
    "fingerprints",
    "The fingerprint of each episode, and when it came first.",
    key="episode_id (UTF-8)",
    value="first offset and time of publication (8 bytes each, big-endian), fingerprint",
    partitions=1,
)

ENGAGEMENT_STATE = Table(
    "engagement_state",
    "Recent minutes, hours and days of the episodes, and who heard them, of one source partition.",
    key="none; headers tell a change from the whole",
    value="Arrow IPC streams: the rows that changed, or all of them",
    partitions=EVENT_PATH,
    form="log",
)

LISTENING_STATE = Table(
    "listening_state",
    "Open sessions and streaks of the listeners of one source partition.",
    key="none; headers tell a change from the whole",
    value="Arrow IPC streams: the rows that changed, or all of them",
    partitions=EVENT_PATH,
    form="log",
)

TRENDING = Table(
    "trending",
    "New listeners of the episodes of one partition, by minute and hour, and what "
    "each source partition last said of the minutes that may still change.",
    key="none; headers tell a change from the whole",
    value="Arrow IPC streams: the rows that changed, or all of them",
    partitions=EVENT_PATH,
    form="log",
)

ANOMALY_MODELS = Table(
    "anomaly_models",
    "What is usual for each episode of one partition: running means of its plays "
    "and of how far they were off; plays of the minutes that are not over, and how "
    "far each source partition is.",
    key="none; headers tell a change from the whole",
    value="Arrow IPC streams: the rows that changed, or all of them",
    partitions=EVENT_PATH,
    form="log",
)

LISTENERS = Table(
    "listeners",
    "What each listener heard and liked.",
    key="user_id (UTF-8)",
    value="Avro `listener_state`, with the last offset applied",
    partitions=EVENT_PATH,
)

BLEND = Table(
    "blend",
    "The online model of one source partition and what awaits its outcome.",
    key="partition (4 bytes, big-endian)",
    value="JSON: weights, counts, pending impressions, the last offset applied",
    partitions=EVENT_PATH,
)
