"""`podstream recommend` and `podstream similar` against the MongoDB server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from streams.cli.commands.recommend import find_list, find_similar
from topology.settings import Settings

pytestmark = pytest.mark.mongo


def test_a_list_is_found_with_its_time_in_utc(mongo_uri: str, tmp_path: Path) -> None:
    settings = Settings(
        podstream_home=tmp_path, mongodb_uri=SecretStr(mongo_uri), mongodb_database="lists"
    )
    document = {"_id": "ann", "items": [], "updated_at": datetime(2026, 1, 10, tzinfo=UTC)}
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client["lists"]["final_recommendations"].insert_one(document)
    assert find_list(settings, "ann") == document
    assert find_list(settings, "nobody") is None


def test_similar_episodes_are_found_with_the_titles_there_are(
    mongo_uri: str, tmp_path: Path
) -> None:
    settings = Settings(
        podstream_home=tmp_path, mongodb_uri=SecretStr(mongo_uri), mongodb_database="alike"
    )
    near = [{"episode_id": name, "score": score} for name, score in (("b", 0.5), ("c", 0.25))]
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client["alike"]["episode_neighbours"].insert_many(
            [
                {"_id": "a", "model": "m", "neighbours": near},
                {"_id": "alone", "model": "m", "neighbours": []},
            ]
        )
        client["alike"]["episodes"].insert_many(
            [{"_id": name, "title": name.upper(), "show_title": "Show"} for name in "ab"]
        )
    found = find_similar(settings, "a")
    assert found is not None
    assert (found["title"], found["model"]) == ("A", "m")
    assert [(one["episode_id"], one["title"], one["show"]) for one in found["neighbours"]] == [
        ("b", "B", "Show"),
        ("c", "", ""),
    ]
    assert find_similar(settings, "alone") is None
    assert find_similar(settings, "x") is None
