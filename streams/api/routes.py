"""What the API answers: each route reads documents and has its answer made of them.

An answer names its source: where a list is missing, or nothing of it passes the filters, it is of
what is trending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

from confluent_kafka import KafkaException
from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel
from pydantic_core import to_json

from streams.api import models
from streams.api.core import answers
from streams.api.core.answers import Answer
from streams.api.core.filters import Filters
from streams.api.documents import Documents, Found
from streams.engagement.core.rolling import WINDOWS
from streams.engagement.core.trending import ALL
from streams.events.forgetting import ForgetRequests
from streams.kafka.clients import DeliveryError
from streams.serving.core.rolling_documents import MOST_SCOPES

MOST_ITEMS = 100
LONGEST_ID = 1024

Listener = Annotated[str, Path(max_length=LONGEST_ID, description="a listener's user_id")]
Episode = Annotated[
    str, Path(max_length=LONGEST_ID, description="source-prefixed id of an episode")
]
Show = Annotated[str, Path(max_length=LONGEST_ID, description="source-prefixed id of a show")]
Count = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="how many items at most")]
Language = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        description="only this BCP-47 tag and its regions: `en` takes `en-GB`",
    ),
]
Category = Annotated[
    str | None, Query(min_length=1, max_length=200, description="only this category, by its name")
]
Explicit = Annotated[
    bool | None,
    Query(description="true: only episodes that are marked explicit; false: none that are"),
]
Scope = Annotated[
    str,
    Query(
        pattern=r"^(all|category:[^|]{1,200}(\|language:[^|]{1,40})?|language:[^|]{1,40})$",
        description="all, category:NAME, language:TAG or category:NAME|language:TAG",
    ),
]


def routes(documents: Documents, requests: ForgetRequests) -> APIRouter:
    """Every route, over these documents; requests to forget a listener go to the log."""
    router = APIRouter(prefix="/v1")

    @router.delete("/listeners/{user_id:path}", status_code=202, **_answers(models.Requested))
    async def forget(user_id: Listener) -> Response:
        """Ask that a listener be forgotten: what was done up to now leaves state, lists and
        history.

        The answer says that the request is in the log; it is fulfilled within seconds, if
        everything runs. What the listener does afterwards counts again."""
        try:
            await asyncio.to_thread(requests.ask, user_id)
        except ValueError as error:
            raise HTTPException(422, f"{error}.") from error
        except (DeliveryError, KafkaException) as error:
            raise HTTPException(503, "The log takes no requests: nothing was asked.") from error
        return _json({"user_id": user_id, "status": "requested"}, 202)

    @router.get("/listeners/{user_id:path}/recommendations", **_answers(models.Recommendations))
    async def recommendations(
        user_id: Listener,
        count: Count = 20,
        language: Language = None,
        category: Category = None,
        explicit: Explicit = None,
    ) -> Response:
        """What to show a listener, best first, with the reasons.

        A listener who is unknown gets what is trending."""
        filters = Filters(language, category, explicit)
        lists = await documents.find("final_recommendations", [user_id])
        told = lists.documents.get(user_id)
        items: list[Answer] = []
        stale = lists.stale
        if told is not None:
            episodes = await _episodes(documents, _looked_at(told["items"], filters, count))
            items = answers.recommended(told, episodes.documents, filters, count)
            # without filters the list itself has what matters of an episode
            stale = stale or (filters.narrow and episodes.stale)
        personal = bool(items)
        if not personal:
            items, also_stale = await _instead(documents, filters, count)
            stale = stale or also_stale
        return _json(
            {
                "stale": stale,
                "user_id": user_id,
                "source": "personal" if personal else "trending",
                "items": items,
                "rows": answers.rows(items),
                "generation": told["generation"] if told is not None and personal else None,
                "updated_at": told["updated_at"] if told is not None and personal else None,
            }
        )

    @router.get("/episodes/{episode_id:path}/similar", **_answers(models.Similar))
    async def similar(
        episode_id: Episode,
        count: Count = 20,
        language: Language = None,
        category: Category = None,
        explicit: Explicit = None,
    ) -> Response:
        """Episodes in which the same things are talked about, nearest first.

        For an episode without known neighbours: what is trending."""
        filters = Filters(language, category, explicit)
        lists = await documents.find("episode_neighbours", [episode_id])
        told = lists.documents.get(episode_id)
        items: list[Answer] = []
        stale = lists.stale
        if told is not None:
            episodes = await _episodes(documents, _looked_at(told["neighbours"], filters, count))
            items = answers.similar(told, episodes.documents, filters, count)
            stale = stale or episodes.stale
        near = bool(items)
        if not near:
            items, also_stale = await _instead(documents, filters, count)
            stale = stale or also_stale
        source = "similar" if near else "trending"
        return _json({"stale": stale, "episode_id": episode_id, "source": source, "items": items})

    @router.get("/trending", **_answers(models.Trending))
    async def trending(
        scope: Scope = ALL,
        count: Count = 20,
        language: Language = None,
        category: Category = None,
        explicit: Explicit = None,
    ) -> Response:
        """What is being discovered now: overall, in a category, in a language, or in both."""
        filters = Filters(language, category, explicit)
        at, items, stale = await _trending(documents, [scope], filters, count)
        return _json({"stale": stale, "scope": scope, "at": at, "items": items})

    @router.get("/episodes/{episode_id:path}/stats", **_answers(models.EpisodeStats))
    async def episode_stats(episode_id: Episode) -> Response:
        """What happened to an episode in the last minutes, hours and days."""
        catalogue = await documents.find("episodes", [episode_id])
        rolling = await documents.find("rolling_windows", _windows("episode"))
        at, windows = answers.windows(episode_id, rolling.documents.values(), MOST_SCOPES)
        episode = catalogue.documents.get(episode_id)
        heard = any(window["counts"] and any(window["counts"].values()) for window in windows)
        if episode is None and not heard:
            raise _unknown("episode", episode_id, catalogue.stale)
        days: list[Answer] = []
        stale = catalogue.stale or rolling.stale
        if at is not None:
            ids = answers.day_ids(episode_id, at)
            found = await documents.find("episode_days", ids)
            days, stale = answers.days(found.listed(ids)), stale or found.stale
        named = answers.described(episode_id, episode, {})
        return _json(
            {
                "stale": stale,
                **{name: named[name] for name in ("episode_id", "title", "show", "show_id")},
                "at": at,
                "windows": windows,
                "days": days,
            }
        )

    @router.get("/shows/{show_id:path}/stats", **_answers(models.ShowStats))
    async def show_stats(show_id: Show) -> Response:
        """What happened to all episodes of a show in the last minutes and hours."""
        catalogue = await documents.find("episodes", [show_id], field="show_id")
        rolling = await documents.find("rolling_windows", _windows("show"))
        episode = catalogue.documents.get(show_id)
        if episode is None:
            raise _unknown("show", show_id, catalogue.stale)
        at, windows = answers.windows(show_id, rolling.documents.values(), MOST_SCOPES)
        return _json(
            {
                "stale": catalogue.stale or rolling.stale,
                "show_id": show_id,
                "title": episode.get("show_title", ""),
                "at": at,
                "windows": windows,
            }
        )

    return router


def health(documents: Documents) -> APIRouter:
    """The route that says how the API is."""
    router = APIRouter(prefix="/v1")

    @router.get("/health", response_model=models.Health)
    async def get_health() -> Response:
        """Whether MongoDB answers; the API answers in any case."""
        await documents.find("trending_episodes", [ALL])
        state = {"status": "degraded", "mongodb": "away"} if documents.away else _WELL
        return _json({**state, "remembered": documents.remembered})

    return router


_WELL = {"status": "ok", "mongodb": "ok"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": models.Problem, "description": said}
    for code, said in {
        401: "The token is missing or wrong.",
        404: "Nothing is known by this id.",
        422: "A parameter is not what it must be; the sentence says which.",
        503: "MongoDB is away, and nothing is in memory by this id; or the log takes no request.",
    }.items()
}


def _answers(model: type[BaseModel]) -> dict[str, Any]:
    return {"response_model": model, "responses": _PROBLEMS}


def _json(answer: Answer, status: int = 200) -> Response:
    return Response(to_json(answer), status, media_type="application/json")


def _windows(kind: str) -> list[str]:
    return [f"{kind}|{minutes}" for minutes in WINDOWS]


def _looked_at(items: Iterable[Any], filters: Filters, count: int) -> Iterable[Any]:
    """The items whose episodes must be known: without filters, as many as are answered."""
    return items if filters.narrow else islice(items, count)


async def _episodes(documents: Documents, items: Iterable[Any]) -> Found:
    return await documents.find("episodes", [item["episode_id"] for item in items])


async def _trending(
    documents: Documents, scopes: list[str], filters: Filters, count: int
) -> tuple[Any, list[Answer], bool]:
    """When the closest ranking is of, what is trending in all of them, and whether it is stale."""
    found = await documents.find("trending_episodes", scopes)
    rankings = found.listed(scopes)
    places = (place for ranking in rankings for place in ranking["episodes"])
    episodes = await _episodes(documents, _looked_at(places, filters, count))
    items = answers.trending(rankings, episodes.documents, filters, count)
    at = rankings[0]["at"] if rankings else None
    return at, items, found.stale or (filters.narrow and episodes.stale)


async def _instead(documents: Documents, filters: Filters, count: int) -> tuple[list[Answer], bool]:
    """What is trending in the place of a list that is missing, and whether it is stale."""
    _, items, stale = await _trending(documents, filters.scopes(), filters, count)
    return answers.instead(items), stale


def _unknown(what: str, name: str, stale: bool) -> HTTPException:
    if stale:
        return HTTPException(503, f"MongoDB is away, and nothing is in memory of {what} {name!r}.")
    return HTTPException(404, f"There is no {what} {name!r}.")
