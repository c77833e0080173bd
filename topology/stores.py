"""Every MongoDB collection and Delta table, once."""

from __future__ import annotations

from topology.model import Collection, Column, DeltaTable, Index

COLLECTIONS = (
    Collection(
        "final_recommendations",
        "What to recommend to each listener: `{_id, items: [{episode_id, title, show, score, "
        "parts: {als, content, trending}, reason}], generation, updated_at, caused_by}`.",
        key="user_id",
        indexes=(Index((("updated_at", -1),)), Index((("generation", 1),))),
    ),
    Collection(
        "engagement_windows",
        "One document an episode and UTC minute, summed over source partitions.",
        key="episode_id|bucket in ISO 8601",
        indexes=(Index((("bucket", -1),)), Index((("episode_id", 1), ("bucket", -1)))),
    ),
    Collection(
        "engagement_totals",
        "One document a UTC hour: the counts of each of its minutes over all episodes, summed "
        'over source partitions: `{_id, hour, minutes: {"05": {plays, …}}, first: {partition: '
        'the first minute it told of}, parts: {partition: {"05": {offset, plays, …}}}}`.',
        key="hour in ISO 8601",
        indexes=(Index((("hour", -1),)),),
    ),
    Collection(
        "rolling_windows",
        "One document a kind of scope and length of window, such as `show|15`: `{_id, at, "
        "active, scopes: [{scope, title, counts}]}`, most listeners first, summed over source "
        "partitions; `active` is how many scopes there are, listed or not.",
        key="kind|minutes",
    ),
    Collection(
        "rolling_window_parts",
        "The newest part of each source partition of `rolling_windows`, as bytes: how workers "
        "that are sent some partitions each sum all of them.",
        key="source partition",
    ),
    Collection(
        "episode_days",
        "One document an episode and UTC day, summed over source partitions: downloads (the "
        "day's listeners), streams, time heard, and `retention`, the listeners of each minute of "
        "the episode.",
        key="episode_id|day in ISO 8601",
        indexes=(Index((("day", -1),)), Index((("episode_id", 1), ("day", -1)))),
    ),
    Collection(
        "episode_anomalies",
        "Episodes that were suddenly heard much more, or much less, than before.",
        key="episode_id|at in ISO 8601",
        indexes=(Index((("at", -1),)),),
        eventual=True,
    ),
    Collection(
        "table_progress",
        "How far each live table has got, and what came too late for it.",
        key="stage|source_partition",
    ),
    Collection(
        "trending_episodes",
        "The merged ranking of each scope; `ranked` says whether it has any episodes.",
        key="scope",
        indexes=(Index((("ranked", 1),)),),
    ),
    Collection(
        "episodes",
        "Titles, shows and categories, for whoever shows a recommendation.",
        key="episode_id",
        indexes=(
            Index((("show_id", 1),)),
            Index((("published_at", -1),)),
            Index((("note_count", 1),)),
        ),
    ),
    Collection(
        "episode_neighbours",
        "The episodes nearest to each episode in what is said in them: `{_id, model, neighbours: "
        "[{episode_id, score}]}`, nearest first.",
        key="episode_id",
    ),
    Collection(
        "stage_failures",
        "Stages that fail while others of their process go on: how often, why, when again.",
        key="stage",
        eventual=True,
    ),
    Collection(
        "model_metrics",
        "Figures of every model and generation.",
        key="model|generation|metric",
        indexes=(Index((("at", -1),)),),
    ),
    Collection(
        "model_generations",
        "Every finished training: what it was trained on, what it was worth, and why its trainer "
        "refused it, if it did.",
        key="generation",
        indexes=(Index((("trained_at", -1),)),),
    ),
    Collection(
        "generation_refusals",
        "Generations that were published and are not served, and why.",
        key="generation",
        eventual=True,
    ),
    Collection(
        "served_generation",
        "The generation that lists are to be made with, where somebody has chosen one.",
        key="model",
        eventual=True,
    ),
    Collection(
        "serving_progress",
        "How far each partition of a topic has been served: the server still has what was "
        "written before it exactly if it still has this.",
        key="topic|partition",
    ),
    Collection(
        "document_expiry",
        "The time before which documents are removed and not written again; it never goes back: "
        "`minutes` for `engagement_windows` and `engagement_totals`, `live` for `episode_days`, "
        "`episode_anomalies`, `model_metrics` and `model_generations`.",
        key="`minutes` or `live`",
        eventual=True,
    ),
    Collection(
        "table_generations",
        "Which generation of the live tables is being served.",
        key="table",
        eventual=True,
    ),
    Collection(
        "served_version",
        "The pointer that readers follow: the version that is served, and the database of its "
        "documents. Without a document it is the first, and its database this one.",
        key="`live`",
        eventual=True,
    ),
)

_EVENT_COUNTS = (
    Column("impressions", "bigint", "times shown"),
    Column("clicks", "bigint", "times opened"),
    Column("plays", "bigint", "times started"),
    Column("completes", "bigint", "times heard to the end"),
    Column("heard_ms", "bigint", "milliseconds of audio heard"),
)

_LISTENER_COUNTS = (
    Column("streams", "bigint", "sessions of the episode that reached 60 s"),
    Column("listeners", "bigint", "distinct listeners"),
    Column("engaged", "bigint", "sessions of the episode that reached 20 minutes or 40 % of it"),
)

DELTA_TABLES = (
    DeltaTable(
        "episodes",
        "The newest record of each episode.",
        (
            Column("episode_id", "string", "source-prefixed id", nullable=False),
            Column("title", "string", "title"),
            Column("show_id", "string", "source-prefixed id of the show"),
            Column("show_title", "string", "title of the show"),
            Column("description", "string", "plain text"),
            Column("categories", "array<string>", "the show's categories"),
            Column("language", "string", "BCP-47 tag"),
            Column("published_at", "timestamp", "UTC"),
            Column("duration_s", "int", "seconds"),
            Column("explicit", "boolean", "marked explicit by the publisher"),
            Column("enclosure_url", "string", "address of the audio"),
        ),
        key=("episode_id",),
    ),
    DeltaTable(
        "transcripts",
        "The transcript of each episode, or why there is none.",
        (
            Column("episode_id", "string", "source-prefixed id", nullable=False),
            Column("status", "string", "ok, none, refused or failed"),
            Column("format", "string", "srt, vtt, json, html or text"),
            Column("language", "string", "BCP-47 tag"),
            Column("text", "string", "what was said"),
            Column("words", "int", "number of words"),
            Column("notes", "array<string>", "what was dropped, guessed or mended in reading it"),
        ),
        key=("episode_id",),
    ),
    DeltaTable(
        "episode_analysis",
        "What is worked out from the transcript of each episode.",
        (
            Column("episode_id", "string", "source-prefixed id", nullable=False),
            Column("language", "string", "BCP-47 tag of the transcript"),
            Column("words", "int", "number of words; null in a script without spaces"),
            Column("speech_ms", "bigint", "time in which anybody speaks, milliseconds"),
            Column("speaking_rate_wpm", "double", "words a minute of speech; null without times"),
            Column("speaker_share_of", "string", "what the shares are of: time or words"),
            Column("speakers", "array<struct<speaker:string,share:double>>", "most first"),
            Column("readability", "double", "Flesch reading ease; null where there is no formula"),
            Column(
                "keywords",
                "array<struct<phrase:string,score:double,occurrences:int>>",
                "keyphrases, best first",
            ),
            Column(
                "sponsors",
                "array<struct<start_ms:bigint,end_ms:bigint,score:double,brand:string,"
                "evidence:array<string>>>",
                "stretches that may be advertisements",
            ),
            Column("text_hash", "string", "SHA-256 of the text"),
        ),
        key=("episode_id",),
    ),
    DeltaTable(
        "episode_duplicates",
        "Which episodes are nearly the same as each episode.",
        (
            Column("episode_id", "string", "source-prefixed id", nullable=False),
            Column("duplicate_of", "string", "the earliest of them all; null if it is this one"),
            Column(
                "similar",
                "array<struct<episode_id:string,similarity:double>>",
                "most similar first; empty once the episode stands alone again",
            ),
        ),
        key=("episode_id",),
        eventual=True,
    ),
    DeltaTable(
        "episode_topics",
        "The topic of each episode.",
        (
            Column("episode_id", "string", "source-prefixed id", nullable=False),
            Column("topic_id", "string", "topic"),
            Column("score", "float", "cosine with the topic's centroid, -1 to 1"),
            Column("model", "string", "name of the embedding model"),
        ),
        key=("episode_id",),
        eventual=True,
    ),
    DeltaTable(
        "topics",
        "Groups of episodes about the same things.",
        (
            Column("topic_id", "string", "id that stays while the topic does", nullable=False),
            Column("label", "string", "its most telling phrases, comma-separated"),
            Column("size", "int", "episodes"),
            Column("model", "string", "name of the embedding model"),
        ),
        key=("topic_id",),
        eventual=True,
    ),
    DeltaTable(
        "user_events",
        "Every valid event once.",
        (
            Column("source_partition", "int", "partition in user-events", nullable=False),
            Column("source_offset", "bigint", "offset in user-events", nullable=False),
            Column("event_id", "string", "unique id"),
            Column("user_id", "string", "listener"),
            Column("episode_id", "string", "episode"),
            Column("kind", "string", "what happened"),
            Column("occurred_at", "timestamp", "UTC"),
            Column("heard_ms", "bigint", "milliseconds heard since the previous event"),
            Column("position_ms", "bigint", "place in the episode, milliseconds"),
            Column("session_id", "string", "session"),
            Column("surface", "string", "where it was shown"),
            Column("rank", "int", "1-based place in the list"),
            Column("arm", "string", "experiment arm"),
            Column("user_agent", "string", "HTTP user agent"),
            Column("generation", "string", "generation of the recommendation shown"),
            Column("duration_ms", "bigint", "length of the episode told by the player"),
            Column("logged_at", "timestamp", "when the log took it, UTC"),
            Column("event_date", "date", "UTC day of occurred_at"),
        ),
        key=("source_partition", "source_offset"),
        partition_by=("event_date",),
    ),
    DeltaTable(
        "user_vs_episode_daily",
        "Who heard how much of what on which day: one row each, exact. What ALS trains on.",
        (
            Column("user_id", "string", "listener", nullable=False),
            Column("episode_id", "string", "episode", nullable=False),
            Column("day", "date", "UTC day", nullable=False),
            *_EVENT_COUNTS,
            Column("likes", "bigint", "likes"),
            Column("dislikes", "bigint", "dislikes"),
            Column("duration_ms", "bigint", "longest length of the episode told; 0: unknown"),
            Column("share", "double", "heard_ms of duration_ms, at most 1; null: length unknown"),
            Column("first_at", "timestamp", "first event of the day, UTC"),
            Column("last_at", "timestamp", "last event of the day, UTC"),
            Column("source_partition", "int", "partition in user-events"),
            Column("applied_offset", "bigint", "last source offset counted in this row"),
        ),
        key=("user_id", "episode_id", "day"),
        partition_by=("day",),
    ),
    DeltaTable(
        "engagement_minutes",
        "Counts per episode, minute and source partition, once nothing can change them any more.",
        (
            Column("episode_id", "string", "episode", nullable=False),
            Column("bucket", "timestamp", "UTC minute", nullable=False),
            Column("source_partition", "int", "partition in user-events", nullable=False),
            *_EVENT_COUNTS,
            *_LISTENER_COUNTS,
            Column("new_listeners", "bigint", "listeners who had not heard it for 24 hours"),
            Column("event_date", "date", "UTC day of the minute"),
        ),
        key=("episode_id", "bucket", "source_partition"),
        partition_by=("event_date",),
        eventual=True,
    ),
    DeltaTable(
        "episode_daily",
        "Downloads and listening per episode, finished UTC day and source partition.",
        (
            Column("episode_id", "string", "episode", nullable=False),
            Column("day", "date", "UTC day", nullable=False),
            Column("source_partition", "int", "partition in user-events", nullable=False),
            *_EVENT_COUNTS,
            Column("streams", "bigint", "sessions of the episode that reached 60 s"),
            Column("engaged", "bigint", "sessions that reached 20 minutes or 40 % of it"),
            Column("downloads", "bigint", "distinct listeners who heard any of it, bots left out"),
        ),
        key=("episode_id", "day", "source_partition"),
        eventual=True,
    ),
    DeltaTable(
        "episode_retention",
        "How many listeners heard each minute of an episode on a finished UTC day.",
        (
            Column("episode_id", "string", "episode", nullable=False),
            Column("day", "date", "UTC day", nullable=False),
            Column("minute", "int", "minute of the episode, 0 is the first", nullable=False),
            Column("source_partition", "int", "partition in user-events", nullable=False),
            Column("listeners", "bigint", "distinct listeners"),
        ),
        key=("episode_id", "day", "minute", "source_partition"),
        eventual=True,
    ),
    DeltaTable(
        "audience_daily",
        "Who heard an episode, show or category on a finished UTC day: exact, and as a sketch.",
        (
            Column("kind", "string", "episode, show, category or all", nullable=False),
            Column("scope", "string", "its id or name; empty for all", nullable=False),
            Column("day", "date", "UTC day", nullable=False),
            Column("source_partition", "int", "partition in user-events", nullable=False),
            Column("listeners", "bigint", "distinct listeners of the day, exact"),
            Column("sketch", "binary", "HyperLogLog sketch: days and partitions unite"),
        ),
        key=("kind", "scope", "day", "source_partition"),
        eventual=True,
    ),
    DeltaTable(
        "listening_sessions",
        "What each listener did without a pause of more than 30 minutes.",
        (
            Column("user_id", "string", "listener", nullable=False),
            Column("started_at", "timestamp", "first event, UTC", nullable=False),
            Column("ended_at", "timestamp", "last event, UTC"),
            Column("events", "bigint", "events of any kind"),
            Column("plays", "bigint", "episodes started"),
            Column("completes", "bigint", "episodes heard to the end"),
            Column("heard_ms", "bigint", "milliseconds of audio heard"),
            Column("source_partition", "int", "partition in user-events", nullable=False),
            Column("closed_offset", "bigint", "source offset by which it was known to be over"),
            Column("event_date", "date", "UTC day of started_at"),
        ),
        key=("user_id", "started_at"),
        partition_by=("event_date",),
        eventual=True,
    ),
    DeltaTable(
        "recommendations_history",
        "Every list that was ever recommended.",
        (
            Column("user_id", "string", "listener", nullable=False),
            Column("generation", "string", "ALS generation"),
            Column("updated_at", "timestamp", "UTC"),
            Column("caused_by", "string", "event_id of the cause"),
            Column(
                "items",
                "array<struct<episode_id:string,title:string,show:string,score:double,"
                "als:double,content:double,trending:double,reason:string>>",
                "best first",
            ),
            Column("source_partition", "int", "partition in recommendations", nullable=False),
            Column("source_offset", "bigint", "offset in recommendations", nullable=False),
            Column("applied_partition", "int", "partition in user-events"),
            Column("applied_offset", "bigint", "last source offset folded in"),
        ),
        key=("source_partition", "source_offset"),
    ),
    DeltaTable(
        "model_metrics",
        "Figures of every model and generation.",
        (
            Column("model", "string", "als, popularity or blend", nullable=False),
            Column("generation", "string", "generation", nullable=False),
            Column("metric", "string", "name of the figure", nullable=False),
            Column("value", "double", "the figure"),
            Column("at", "timestamp", "UTC"),
            Column("source_offset", "bigint", "offset in model-metrics", nullable=False),
        ),
        key=("source_offset",),
    ),
)
