from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from schemas import columnar
from streams.operations.core.rebuild import document_parts
from streams.serving.core.documents import Document
from streams.serving.mongo.generations import WindowGenerations, window_documents
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.mongo

DECLARED = build_graph(2).collections["engagement_windows"]
BUCKET = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)


def parts(*rows: tuple[str, int, int, int]) -> pl.DataFrame:
    """(episode, source partition, offset, plays)."""
    return pl.DataFrame(
        [
            (episode, BUCKET, number, offset, 0, 0, plays, 0, 0, 0, 0, 0, 0)
            for episode, number, offset, plays in rows
        ],
        schema=columnar.columns("engagement_window"),
        orient="row",
    )


@pytest.fixture
def database(mongo_uri: str) -> Iterator[Database[Document]]:
    with MongoClient[Document](mongo_uri, tz_aware=True) as client:
        client.drop_database("generations")
        yield client["generations"]


@pytest.fixture
def generations(mongo_uri: str, database: Database[Document]) -> Iterator[WindowGenerations]:
    settings = Settings(mongodb_uri=SecretStr(mongo_uri), mongodb_database="generations")
    opened = WindowGenerations(settings, DECLARED)
    yield opened
    opened.close()


def served(generations: WindowGenerations) -> dict[str, Document]:
    """What is being served, by episode."""
    return {d["episode_id"]: d for some in generations.batches() for d in some}


def read(generations: WindowGenerations) -> pl.DataFrame:
    """What a rebuild notes of the documents that it compares."""
    return document_parts(served(generations).values())


def test_equal_documents_are_not_written_again(
    database: Database[Document], generations: WindowGenerations
) -> None:
    rows = parts(("a", 0, 5, 1), ("a", 1, 7, 2), ("b", 0, 6, 3))
    database["engagement_windows"].insert_many(window_documents(rows))
    assert {episode: d["plays"] for episode, d in served(generations).items()} == {"a": 3, "b": 3}
    assert generations.take_over(read(generations), rows) == 0


def test_what_differs_below_is_replaced_unless_it_was_written_since(
    database: Database[Document], generations: WindowGenerations
) -> None:
    collection = database["engagement_windows"]
    collection.insert_many(window_documents(parts(("a", 0, 4, 3), ("b", 0, 6, 3))))
    before = read(generations)
    newer = window_documents(parts(("b", 0, 9, 4)))[0]
    collection.replace_one({"_id": newer["_id"]}, newer)
    rows = parts(("a", 0, 5, 1), ("a", 1, 7, 2), ("b", 0, 6, 1), ("b", 1, 2, 2), ("c", 0, 1, 1))
    assert generations.take_over(before, rows) == 1
    after = served(generations)
    assert after["a"] == next(d for d in window_documents(rows) if d["episode_id"] == "a")
    assert after["b"] == newer
    assert "c" not in after


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_any_number_is_read_and_kept_some_at_a_time(
    database: Database[Document],
    generations: WindowGenerations,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    monkeypatch.setattr("streams.serving.mongo.generations.LOAD_DOCUMENTS", at_once)
    rows = parts(*((f"e{number}", place, 5, number) for number in range(7) for place in range(2)))
    made = {document["_id"]: document for document in window_documents(rows)}
    database["engagement_windows"].insert_many(made.values())
    batches = list(generations.batches())
    assert max(map(len, batches)) == min(at_once, 7)
    assert [d for some in batches for d in some] == [made[key] for key in sorted(made)]
    for name in (generations.keep_served(1), generations.keep(2, rows)):
        assert {d["_id"]: d for d in database[name].find()} == made
    # Every document differs below: its partitions had counted otherwise.
    database["engagement_windows"].update_many({}, {"$set": {"plays": -1}})
    assert generations.take_over(read(generations), rows) == 7
    assert {d["_id"]: d for some in generations.batches() for d in some} == made


def test_a_kept_generation_has_its_indexes_and_is_dropped_when_told(
    database: Database[Document], generations: WindowGenerations
) -> None:
    rows = parts(("a", 0, 5, 1))
    assert generations.keep(3, rows) == "engagement_windows_g3"
    assert list(database["engagement_windows_g3"].find({})) == window_documents(rows)
    there = set(database["engagement_windows_g3"].index_information())
    assert {index.name for index in DECLARED.indexes} <= there
    generations.keep(3, rows.clear())  # again, with what it holds now
    assert database["engagement_windows_g3"].count_documents({}) == 0
    database["engagement_windows"].insert_many(window_documents(rows))
    assert generations.drop_kept() == ["engagement_windows_g3"]
    assert list(served(generations).values()) == window_documents(rows)
