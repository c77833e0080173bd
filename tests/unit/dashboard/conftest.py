"""A database of its own for each module that asks MongoDB."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database


@pytest.fixture
def database(request: pytest.FixtureRequest, mongo_uri: str) -> Iterator[Database[dict[str, Any]]]:
    """Empty, with times in UTC."""
    name = "dashboard_" + request.module.__name__.rpartition(".test_")[2]
    opened: MongoClient[dict[str, Any]] = MongoClient(mongo_uri, tz_aware=True)
    with opened as client:
        client.drop_database(name)
        yield client[name]
