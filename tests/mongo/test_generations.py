from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from schemas import columnar
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


def test_equal_documents_are_not_written_again(
    database: Database[Document], generations: WindowGenerations
) -> None:
    made = window_documents(parts(("a", 0, 5, 1), ("a", 1, 7, 2), ("b", 0, 6, 3)))
    database["engagement_windows"].insert_many(made)
    before = generations.documents()
    assert [d["plays"] for d in sorted(before, key=lambda d: d["_id"])] == [3, 3]
    assert generations.take_over(before, made) == 0


def test_what_differs_below_is_replaced_unless_it_was_written_since(
    database: Database[Document], generations: WindowGenerations
) -> None:
    served = database["engagement_windows"]
    served.insert_many(window_documents(parts(("a", 0, 4, 3), ("b", 0, 6, 3))))
    before = generations.documents()
    newer = window_documents(parts(("b", 0, 9, 4)))[0]
    served.replace_one({"_id": newer["_id"]}, newer)
    made = window_documents(parts(("a", 0, 5, 1), ("a", 1, 7, 2), ("b", 0, 6, 1), ("b", 1, 2, 2)))
    assert generations.take_over(before, made) == 2
    after = {d["episode_id"]: d for d in generations.documents()}
    assert after["a"] == next(document for document in made if document["episode_id"] == "a")
    assert after["b"] == newer


def test_a_kept_generation_has_its_indexes_and_is_dropped_when_told(
    database: Database[Document], generations: WindowGenerations
) -> None:
    made = window_documents(parts(("a", 0, 5, 1)))
    assert generations.keep(3, made) == "engagement_windows_g3"
    assert list(database["engagement_windows_g3"].find({})) == made
    there = set(database["engagement_windows_g3"].index_information())
    assert {index.name for index in DECLARED.indexes} <= there
    generations.keep(3, [])  # again, with what it holds now
    assert database["engagement_windows_g3"].count_documents({}) == 0
    database["engagement_windows"].insert_many(made)
    assert generations.drop_kept() == ["engagement_windows_g3"]
    assert generations.documents() == made
