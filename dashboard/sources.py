"""Where the pages get their answers: connections, caches, and sentences for when one is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import duckdb
import streamlit as st
from deltalake.exceptions import DeltaError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from topology.access import mongo_refusal
from topology.settings import get_settings

T = TypeVar("T")

TIMEOUT_MS = 1_500
SOCKET_TIMEOUT_MS = 10_000

_SERVED = "served_version"
"""The collection that tells which version is served, and where a session keeps which it shows."""


class PacedCache:
    """Answers kept for a second, and for longer where asking is dear.

    However many browsers watch, a question is asked at most once every ``min_age_s`` and takes
    at most ``share`` of the time of one server thread; who asks meanwhile waits for the same
    answer. Answers that are over are let go. Thread-safe.
    """

    def __init__(
        self,
        min_age_s: float = 0.9,
        share: float = 0.15,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._min_age_s = min_age_s
        self._share = share
        self._clock = clock
        self._answers: dict[Any, tuple[float, Any]] = {}
        self._asking: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, question: Any, ask: Callable[[], Any], at_least_s: float = 0.0) -> Any:
        """The kept answer to ``question``, or that of ``ask()``, whose errors pass through.

        It is kept ``at_least_s`` where that is longer.
        """
        with self._lock:
            if (kept := self._kept(question)) is not None:
                return kept[1]
            asking = self._asking.setdefault(question, threading.Lock())
        with asking:
            with self._lock:
                if (kept := self._kept(question)) is not None:
                    return kept[1]
            start = self._clock()
            try:
                answer = ask()
            finally:
                with self._lock:
                    self._asking.pop(question, None)
            end = self._clock()
            age = max(self._min_age_s, at_least_s, (end - start) / self._share)
            with self._lock:
                self._answers[question] = (end + age, answer)
            return answer

    def _kept(self, question: Any) -> tuple[float, Any] | None:
        now = self._clock()
        for over in [asked for asked, (until, _) in self._answers.items() if until <= now]:
            del self._answers[over]
        return self._answers.get(question)


@st.cache_resource(show_spinner=False)
def paced() -> PacedCache:
    """The cache of the live page, shared by all sessions."""
    return PacedCache()


@st.cache_resource(show_spinner=False)
def _client() -> MongoClient[dict[str, Any]]:
    return MongoClient(
        get_settings().mongodb_uri.get_secret_value(),
        tz_aware=True,
        serverSelectionTimeoutMS=TIMEOUT_MS,
        connectTimeoutMS=TIMEOUT_MS,
        socketTimeoutMS=SOCKET_TIMEOUT_MS,
        appname="podstream-dashboard",
    )


def database(name: str | None = None) -> Database[dict[str, Any]]:
    """The database of this name; without one, that of the version that is served."""
    return _client()[served() if name is None else name]


def served() -> str:
    """The database of the version that is served: the same for a whole run of a page.

    Once the pointer has moved, the page is run anew from its top, so that none shows two versions.
    PyMongoError where the server fails.
    """
    name: str = paced().get(_SERVED, _ask_pointer)
    shown = st.session_state.get(_SERVED)
    if shown != name:
        st.session_state[_SERVED] = name
        if shown is not None:
            st.rerun()
    return name


def _ask_pointer() -> str:
    first = get_settings().mongodb_database
    told = _client()[first][_SERVED].find_one({"_id": "live"})
    return first if told is None else str(told["database"])


def tell_version() -> None:
    """Say which version is served where it is not the first: Delta's tables are the first one's."""
    try:
        name = served()
    except PyMongoError:  # the page says so itself
        return
    if name != get_settings().mongodb_database:
        st.info(
            f"What is live here is that of database `{name}`, a version that was promoted. History "
            "from Delta, models and lists are those of the first version.",
            icon=":material/alt_route:",
        )


def answer(
    question: Hashable, ask: Callable[[Database[dict[str, Any]]], T], at_least_s: float = 0.0
) -> T:
    """What ``ask`` finds in the served database, kept as `PacedCache.get` says.

    PyMongoError where the server fails.
    """
    name = served()
    found: T = paced().get((name, question), lambda: ask(database(name)), at_least_s)
    return found


def delta_root() -> str:
    """Where the Delta tables lie."""
    return get_settings().delta_root


def now() -> datetime:
    """The time of this run of a page, in UTC."""
    return datetime.now(UTC)


@contextmanager
def mongo_answers() -> Iterator[None]:
    """Run a block that asks MongoDB; where it is away, say so and end the page or fragment."""
    try:
        yield
    except PyMongoError as error:
        if (refusal := mongo_refusal(error)) is not None:
            st.error(refusal, icon=":material/lock:")
            st.stop()
        st.error(
            f"MongoDB does not answer at {mongo_address()} ({type(error).__name__}). "
            "This page goes on by itself once it does; `podstream status` shows its process.",
            icon=":material/cloud_off:",
        )
        st.stop()


@contextmanager
def delta_answers() -> Iterator[None]:
    """Run a block that reads Delta tables; where one cannot be read, say so and end the page."""
    try:
        yield
    except (DeltaError, OSError, duckdb.Error) as error:
        logging.getLogger(__name__).exception("Reading Delta tables")
        st.error(
            f"The Delta tables under `{delta_root()}` cannot be read right now "
            f"({type(error).__name__}).",
            icon=":material/cloud_off:",
        )
        st.stop()


def mongo_address() -> str:
    """host:port of the servers, without the user and password that the URI may hold."""
    nodes = parse_uri(get_settings().mongodb_uri.get_secret_value(), validate=False)["nodelist"]
    return ", ".join(f"{host}:{port}" for host, port in nodes)


def ago(then: datetime | None, at: datetime) -> str:
    """How long before ``at``, in one unit: ``0.8 s``, ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    if then is None:
        return "n/a"
    seconds = max((at - then) / timedelta(seconds=1), 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def stamp(value: datetime | None) -> str:
    """A time to the second, in UTC."""
    return "n/a" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"
