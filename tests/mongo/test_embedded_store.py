"""The file of the embedded MongoDB server: what it costs, and who wrote it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, ReplaceOne

from streams.cli.local.mongo import running_mongo

pytestmark = pytest.mark.mongo

STORE = Path("mongo") / "podstream.h2"
DATA = Path(__file__).with_name("data")


def windows(version: int) -> list[dict[str, Any]]:
    """2,000 documents much like those of minutes, about 1 kB each."""
    counts = dict.fromkeys(("impressions", "clicks", "plays", "completes", "streams"), version)
    return [
        {"_id": f"ml:{n % 80}|{n}", "parts": {str(part): {**counts, "n": n} for part in range(4)}}
        for n in range(2_000)
    ]


def test_what_is_overwritten_takes_a_tenth_of_what_was_said(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri, MongoClient[dict[str, Any]](uri) as client:
        for version in range(30):
            operations = [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in windows(version)]
            client.test.kept.bulk_write(operations)
    # 60 MB were said; uncompressed the file has 26.
    assert (tmp_path / STORE).stat().st_size < 10_000_000


def test_a_file_that_an_earlier_release_wrote_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / STORE
    path.parent.mkdir()
    path.write_bytes(gzip.decompress((DATA / "h2-2.3.232.gz").read_bytes()))
    for count in (21, 22):
        with running_mongo(tmp_path) as uri, MongoClient[dict[str, Any]](uri) as client:
            episodes = client.podstream.episodes
            assert episodes.find_one({"_id": "e7"}) == {"_id": "e7", "title": "Episode 7"}
            episodes.insert_one({"_id": f"new {count}"})
            assert episodes.count_documents({}) == count
