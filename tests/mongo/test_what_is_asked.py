"""Whoever asks MongoDB asks by `_id` or by a declared index with a bound, or for a bounded answer.

Every page, the command line, `serve_mongo` and a rebuild's reading run against the embedded server;
each command that they send is held to the rules by which a real MongoDB uses the declared indexes,
and is explained by the embedded one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database
from streamlit.testing.v1 import AppTest

from dashboard import sources
from streams.cli import status
from streams.cli.commands.recommend import find_list
from streams.cli.commands.smoke import _has_als
from streams.serving.mongo import expiry
from streams.serving.mongo.expiry import REFRESHES_TO_SEE
from streams.serving.mongo.generations import WindowGenerations
from tests.browser.seed import Stores, put_windows, seed
from tests.mongo.commands import RECORDER, WRITES, Command, reads
from tests.mongo.test_expiry import Served
from tests.paths import ROOT
from topology.apply import create_index
from topology.graph import build_graph
from topology.model import Collection
from topology.settings import Settings, get_settings

pytestmark = pytest.mark.mongo

PAGES = ("live", "recommendations", "models", "episodes", "history", "lineage")
MOST = expiry.FOUND_AT_ONCE
"""So many documents are the longest answer to one question: the ids of what expires."""

GRAPH = build_graph(4)
Documents = Database[dict[str, Any]]


@pytest.fixture(scope="module")
def stores(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Seeded stores with the declared indexes, and more of what a page looks at than it shows."""
    root = tmp_path_factory.mktemp("scans")
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        database = client["nothing_scans"]
        for name, collection in GRAPH.collections.items():
            for index in collection.indexes:
                create_index(database, name, index)
        now = datetime.now(UTC).replace(microsecond=0)
        made = Stores(database, root / "delta", now)
        seed(made)
        minute = now.replace(second=0, microsecond=0)
        for back in range(24 * 60, 60 * 60, 30):
            put_windows(made, minute - timedelta(minutes=back), 3, 1.0)
        yield made


@pytest.fixture
def settings(
    stores: Stores, mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Those of the seeded stores, for pages as well."""
    for name, value in {
        "PODSTREAM_HOME": str(tmp_path),
        "MONGODB_URI": mongo_uri,
        "MONGODB_DATABASE": stores.database.name,
        "DELTA_ROOT": str(stores.delta_root),
    }.items():
        monkeypatch.setenv(name, value)
    _forget()
    yield get_settings()
    sources.database().client.close()
    _forget()


def _forget() -> None:
    get_settings.cache_clear()
    st.cache_data.clear()
    st.cache_resource.clear()


def bounded(database: Documents, command: Command) -> None:
    """Hold a command to the rules; AssertionError says what it is."""
    kind = next(iter(command))
    name = command[kind]
    wanted, sort = dict(command.get("filter", {})), dict(command.get("sort", {}))
    if kind == "count":
        wanted = dict(command.get("query", {}))
        if not wanted:  # the server knows how many there are
            return
    if kind == "aggregate" and (counted := _counted(command)) is not None:
        kind, wanted = "count", counted
    assert kind in ("find", "count"), f"{kind} looks at every document: {command}"
    assert _indexed(GRAPH.collections[name], wanted, sort), f"no index serves {command}"
    limit = command.get("limit", 0)
    if "_id" not in wanted and kind == "find":
        assert 0 < limit <= MOST, f"as many as there are: {command}"
    asked = {"find": name, "filter": wanted, "sort": sort, "limit": limit}
    told = database.command({"explain": {key: value for key, value in asked.items() if value}})
    if told["queryPlanner"]["winningPlan"]["stage"] == "EOF":  # there is no such collection yet
        return
    examined = told["executionStats"]["totalDocsExamined"]
    assert examined <= told["executionStats"]["nReturned"], f"{examined} for {command}"
    plan = told["queryPlanner"]["winningPlan"]["stage"]
    assert plan != "COLLSCAN" or not (wanted or sort), f"a scan: {command}"


def _counted(command: Command) -> dict[str, Any] | None:
    """The filter of what pymongo's ``count_documents`` sends; None for any other pipeline."""
    match command["pipeline"]:
        case [{"$match": wanted}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]:
            return dict(wanted)
    return None


def _indexed(declared: Collection, wanted: Mapping[str, Any], sort: Mapping[str, int]) -> bool:
    """Whether a declared index finds and sorts, by MongoDB's rules: fields that are equal, then
    what is sorted by, then a range, in the order of the index."""
    if not wanted and not sort:
        return True
    if "_id" in wanted:
        return True  # few, which may be sorted and looked through
    equal = [name for name, value in wanted.items() if not isinstance(value, Mapping)]
    ranges = [name for name in wanted if name not in equal]
    for index in [((("_id", 1),)), *(index.fields for index in declared.indexes)]:
        names = [name for name, _ in index]
        rest = names[len(equal) :]
        if set(names[: len(equal)]) != set(equal):
            continue
        served = list(dict.fromkeys([*sort, *ranges]))
        if rest[: len(served)] == served:
            return True
    return False


def test_the_rule_tells_a_scan(stores: Stores) -> None:
    for command in (
        {"find": "episodes", "filter": {"title": {"$regex": "moss"}}, "limit": 10},
        {"find": "episodes", "filter": {"show_id": "s"}, "sort": {"published_at": -1}, "limit": 9},
        {"find": "engagement_windows", "filter": {"bucket": {"$gte": stores.now}}},
        {"find": "engagement_windows", "filter": {"plays": 3}, "limit": 1},
        {"find": "engagement_windows", "filter": {}},
        {"aggregate": "engagement_windows", "pipeline": []},
        {
            "aggregate": "episodes",
            "pipeline": [{"$match": {"title": "Moss"}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}],
        },
        {"distinct": "episodes", "key": "categories"},
        {"count": "episodes", "query": {"notes.0": {"$exists": True}}},
    ):
        with pytest.raises(AssertionError):
            bounded(stores.database, command)
    bounded(stores.database, {"find": "episodes", "sort": {"published_at": -1}, "limit": 10})
    by_episode = {"episode_id": "demo:1000", "bucket": {"$lt": stores.now}}
    asked = {"filter": by_episode, "sort": {"bucket": -1}, "limit": 10}
    bounded(stores.database, {"find": "engagement_windows", **asked})


@pytest.mark.parametrize("page", PAGES)
def test_pages_ask_by_index(stores: Stores, settings: Settings, page: str) -> None:
    with RECORDER.recording(settings.mongodb_database) as commands:
        app = AppTest.from_file(str(ROOT / f"dashboard/app_pages/{page}.py"), default_timeout=60)
        app.run()
        assert not app.exception
        for change in CHANGES.get(page, ()):
            st.cache_data.clear()
            change(app, stores)
            app.run()
            assert not app.exception
    asked = reads(commands)
    assert bool(asked) == (page != "lineage")
    for command in asked:
        bounded(stores.database, command)


def _window(app: AppTest, _: Stores) -> None:
    app.session_state["window"] = "24 h"


def _scope(app: AppTest, _: Stores) -> None:
    app.session_state["kind"] = "Shows"


def _search(app: AppTest, _: Stores) -> None:
    app.text_input("text").set_value("moss")


def _category(app: AppTest, _: Stores) -> None:
    app.session_state["category"] = "Music"


def _whole_id(app: AppTest, stores: Stores) -> None:
    app.session_state["category"] = None
    app.text_input("text").set_value(stores.episodes[0]["_id"])
    app.session_state["chosen-episode"] = stores.episodes[0]["_id"]


CHANGES: dict[str, tuple[Callable[[AppTest, Stores], object], ...]] = {
    "live": (_window, _scope),
    "episodes": (_search, _category, _whole_id),
}
"""What somebody does on a page who looks at all of it."""


def test_the_command_line_asks_by_index(stores: Stores, settings: Settings) -> None:
    with RECORDER.recording(settings.mongodb_database) as commands:
        status.mongo_rows(settings, GRAPH)
        status.late_events(settings)
        status.noted_episodes(settings)
        assert find_list(settings, "listener-001")
        assert _has_als(settings)
    asked = reads(commands)
    assert len(asked) >= len(GRAPH.collections) + 4
    for command in asked:
        bounded(stores.database, command)


def test_a_rebuild_reads_by_ranges(
    stores: Stores, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.serving.mongo.generations.LOAD_DOCUMENTS", 100)
    served = WindowGenerations(settings, GRAPH.collections["engagement_windows"])
    with RECORDER.recording(settings.mongodb_database) as commands:
        count = sum(len(some) for some in served.batches())
        served.kept_from()
    served.close()
    assert count == stores.database["engagement_windows"].count_documents({}) > 1000
    assert len(reads(commands)) >= count // 100
    for command in reads(commands):
        bounded(stores.database, command)


def test_serve_mongo_asks_by_index(mongo_uri: str, tmp_path: Path) -> None:
    settings = Settings(
        podstream_home=tmp_path,
        mongodb_uri=SecretStr(mongo_uri),
        mongodb_database="nothing_scans_served",
        mongo_keep_days=10,
        event_partitions=2,
    )
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        database = client[settings.mongodb_database]
        for name, collection in GRAPH.collections.items():
            for index in collection.indexes:
                create_index(database, name, index)
        with RECORDER.recording(settings.mongodb_database) as commands:
            served = Served(settings, database)
            served.tell(range(16), 0, 1)
            served.reach(15, 15)
            for _ in range(REFRESHES_TO_SEE + 1):
                served.runtime.run()
        asked = reads(commands)
        assert {command.get("find") for command in asked} >= {
            "engagement_windows",
            "engagement_totals",
            "episode_days",
            "document_expiry",
        }
        for command in asked:
            bounded(database, command)
        written = [command for command in commands if next(iter(command)) in WRITES]
        assert {command["writeConcern"]["j"] for command in written} == {True}


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("page", ["live", "recommendations"])
def test_twenty_sessions_ask_what_one_asks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """Pages that are drawn anew each second: a tick costs the server the same for every crowd."""
    clock = Clock()
    cache = sources.PacedCache(clock=clock)
    monkeypatch.setattr(sources, "paced", lambda: cache)

    def sessions(count: int) -> int:
        with RECORDER.recording(settings.mongodb_database) as commands:
            for _ in range(count):
                app = AppTest.from_file(str(ROOT / f"dashboard/app_pages/{page}.py"))
                app.run(timeout=60)
                assert not app.exception
        return len(commands)

    alone = sessions(1)
    assert alone
    assert sessions(19) == 0
    clock.now += 1.0
    again = sessions(20)
    assert 0 < again <= alone


def test_no_page_script_shows_a_string_by_mistake() -> None:
    """Streamlit draws every bare expression of a page's script: only its docstring is none."""
    for page in PAGES:
        tree = ast.parse((ROOT / f"dashboard/app_pages/{page}.py").read_text(encoding="utf-8"))
        bare = [node for node in tree.body[1:] if isinstance(node, ast.Expr)]
        assert not [node for node in bare if isinstance(node.value, ast.Constant)], page
