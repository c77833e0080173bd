"""What tests of lists have in common: each module has its own `settings`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.broker.workers import list_maker
from topology.settings import Settings


@pytest.fixture(scope="module")
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with list_maker(settings) as process:
        yield process


@pytest.fixture
def database(settings: Settings) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        yield client[settings.mongodb_database]
