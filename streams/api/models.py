"""The answers of the read API, as its OpenAPI page shows them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Model):
    """What is wrong with a request, or why it has no answer, in one sentence."""

    error: str


class Requested(_Model):
    """A request that is in the log, and is answered in its turn."""

    user_id: str
    status: Literal["requested"]


class Answered(_Model):
    """What every answer has."""

    stale: bool = Field(
        description="MongoDB did not answer in time: this is from memory, or of less than there is."
    )


class Episode(_Model):
    """An episode; null or empty is what is not known of it."""

    episode_id: str = Field(description="source-prefixed id")
    title: str
    show: str = Field(description="title of the show")
    show_id: str | None
    categories: list[str] | None
    language: str | None = Field(description="BCP-47 tag")
    explicit: bool | None = Field(description="marked so by the publisher")
    published_at: datetime | None = Field(description="UTC")
    duration_s: int | None = Field(description="seconds")
    image_url: str | None
    link: str | None = Field(description="the episode's page")
    audio_url: str | None


class Parts(_Model):
    """The score by signal, each from 0 to 1 before it is weighted."""

    als: float
    content: float
    trending: float
    ranked: float | None = Field(
        None, description="order by the ranker; null where the list is blended"
    )


class Item(Episode):
    """A place in a list."""

    score: float
    reason: str = Field(description="why it is here, in words for the listener")


class RecommendedItem(Item):
    """A place in a listener's list; trending ones have no parts."""

    parts: Parts | None = None


class Row(_Model):
    """Items that have the same reason, which heads them."""

    title: str
    episode_ids: list[str]


class Recommendations(Answered):
    """What to show a listener, best first."""

    user_id: str
    source: Literal["personal", "trending"] = Field(
        description="trending: the listener is unknown, or no item of the list passes the filters"
    )
    items: list[RecommendedItem]
    rows: list[Row] = Field(description="the same items, grouped as a page would show them")
    generation: str | None = Field(description="ALS generation of the list; empty before the first")
    updated_at: datetime | None = Field(description="when the list was made, UTC")


class Similar(Answered):
    """Episodes about the same things, nearest first; the score is the cosine, -1 to 1."""

    episode_id: str
    source: Literal["similar", "trending"] = Field(
        description="trending: nothing is known to be similar, or none of it passes the filters"
    )
    items: list[Item]


class TrendingItem(Item):
    """A place in a ranking."""

    plays: int = Field(description="plays within the ranked span")
    recent: int = Field(description="listeners new to it in the last hour")
    usual: float = Field(description="listeners new to it an hour, on average, before")
    rise: float = Field(description="(recent + 1) / (usual + 1)")


class Trending(Answered):
    """What is being discovered now, best first; the score is time-decayed new listeners."""

    scope: str = Field(description="the ranking that was asked for")
    at: datetime | None = Field(description="event time of the ranking, UTC")
    items: list[TrendingItem]


class Counts(_Model):
    """What happened within a window."""

    impressions: int = Field(description="times shown")
    clicks: int = Field(description="times opened")
    plays: int = Field(description="times started")
    completes: int = Field(description="times heard to the end")
    heard_ms: int = Field(description="audio heard, milliseconds")
    streams: int = Field(description="sessions that reached 60 s")
    listeners: int = Field(description="distinct listeners")
    engaged: int = Field(description="listeners who reached 20 minutes or 40 % of it")


class Window(_Model):
    """The last minutes, by event time."""

    minutes: int
    counts: Counts | None = Field(description="null: not among the scopes that are told of")


class Day(_Model):
    """A UTC day of an episode."""

    day: date
    impressions: int
    clicks: int
    plays: int
    completes: int
    heard_ms: int
    streams: int
    engaged: int
    downloads: int = Field(description="distinct listeners of the day, bots left out")
    final: bool = Field(description="nothing can change it any more")


class EpisodeStats(Answered):
    """What happened to an episode lately."""

    episode_id: str
    title: str
    show: str
    show_id: str | None
    at: datetime | None = Field(description="newest minute counted, event time, UTC")
    windows: list[Window]
    days: list[Day] = Field(description="of the last seven, those with listening, oldest first")


class ShowStats(Answered):
    """What happened to all episodes of a show lately."""

    show_id: str
    title: str
    at: datetime | None = Field(description="newest minute counted, event time, UTC")
    windows: list[Window]


class Health(_Model):
    """How the API is; it answers from memory while MongoDB is away."""

    status: Literal["ok", "degraded"]
    mongodb: Literal["ok", "away"]
    remembered: int = Field(description="documents in memory")
