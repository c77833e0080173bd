"""Which version is served: the pointer in MongoDB, asked at most once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

COLLECTION, LIVE = "served_version", "live"
FRESH_S = 0.5
USABLE_S = 3.0
"""So old the pointer may be while it is asked for again."""

WAIT_S = 0.25
"""Longest wait of a request for the pointer."""


class Pointer:
    """The pointer in the database of the first version, which is served while there is none.

    One question is under way at a time, and a request that comes meanwhile goes with it. While
    MongoDB is away the version that was served last is served.
    """

    def __init__(self, first: AsyncDatabase[RawBSONDocument], clock: Callable[[], float]):
        self._documents = first[COLLECTION]
        self._clock = clock
        self._database = first.name
        self._asked_at: float | None = None
        self._told_at: float | None = None
        self._failed = False
        self._asking: asyncio.Task[None] | None = None

    async def database(self) -> str:
        """The name of the database to read."""
        now = self._clock()
        if self._asking is None and (self._asked_at is None or now > self._asked_at + FRESH_S):
            self._asking = asyncio.create_task(self._ask())
        late = self._told_at is None or now > self._told_at + USABLE_S
        if self._asking is not None and late and not self._failed:
            await asyncio.wait({self._asking}, timeout=WAIT_S)
        return self._database

    async def _ask(self) -> None:
        try:
            told = await self._documents.find_one({"_id": LIVE}, {"database": 1})
            self._database = str(told["database"]) if told else self._documents.database.name
            self._told_at, self._failed = self._clock(), False
        except PyMongoError:
            self._failed = True  # whoever reads documents says that MongoDB is away
        finally:
            self._asked_at = self._clock()
            self._asking = None

    async def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
