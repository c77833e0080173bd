"""`podstream recommend` against the MongoDB server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from streams.cli.commands.recommend import find_list
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
