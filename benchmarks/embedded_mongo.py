"""The embedded MongoDB server with minutes of engagement in it: writes, and queries by index.

Documents are those of `engagement_windows`, with the declared indexes, and are written as
`serve_mongo` writes them. Printed are documents written a second, the size of the file, the
milliseconds of each query (median and 95th percentile) and the server's memory after them. With
`--beside URI` the same is done to another server, in the database that is named there, which is
dropped; the ratios are its times over ours. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psutil
from pymongo import MongoClient, ReplaceOne
from pymongo.database import Database

from streams.cli.local.mongo import running_mongo
from topology.apply import create_index
from topology.graph import build_graph

COLLECTION = "engagement_windows"
EPISODES = 400
PARTITIONS = 4
BATCH = 1_000
START = datetime(2026, 1, 1, tzinfo=UTC)

Documents = Database[dict[str, Any]]


def main() -> None:
    """Measure one server, or two in turn, and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=40, help="times that each query is asked")
    parser.add_argument("--beside", help="URI of another MongoDB server")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embedded-mongo-") as folder:
        home = Path(folder)
        with running_mongo(home) as uri:
            ours = measured(uri, options.documents, options.rounds)
            ours["server_rss_mib"] = round(server_memory(uri) / 2**20)
        ours["file_bytes_a_document"] = round(_size(home / "mongo") / options.documents)
    figures: dict[str, Any] = {"documents": options.documents, "embedded": ours}
    if options.beside:
        figures["beside"] = theirs = measured(options.beside, options.documents, options.rounds)
        figures["times"] = {
            name: round(theirs["ms"][name]["p95"] / ms["p95"], 2) for name, ms in ours["ms"].items()
        }
    machine.report("embedded_mongo", figures)


def measured(uri: str, documents: int, rounds: int) -> dict[str, Any]:
    """Write and ask one server."""
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        client.drop_database("embedded_mongo")
        database = client["embedded_mongo"]
        for index in build_graph(PARTITIONS).collections[COLLECTION].indexes:
            create_index(database, COLLECTION, index)
        began = time.perf_counter()
        for number, batch in enumerate(_batches(documents)):
            operations = [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in batch]
            database[COLLECTION].bulk_write(operations, ordered=False)
            if number % 50 == 0:
                print(f"{number * BATCH:,} documents …", file=sys.stderr)
        written = documents / (time.perf_counter() - began)
        asked = {name: _times(ask, rounds) for name, ask in _asked(database, documents).items()}
        client.drop_database("embedded_mongo")
    return {"written_per_s": round(written), "ms": asked}


def _asked(database: Documents, documents: int) -> dict[str, Callable[[int], object]]:
    """What pages and stages ask, each by the number of the round."""
    kept = database[COLLECTION]
    last = START + timedelta(minutes=(documents - 1) // EPISODES)
    generator = np.random.default_rng(1)

    def fifteen_minutes(_: int) -> object:
        within = {"bucket": {"$gt": last - timedelta(minutes=15), "$lte": last}}
        return list(
            kept.aggregate(
                [{"$match": within}, {"$group": {"_id": "$bucket", "plays": {"$sum": "$plays"}}}]
            )
        )

    def some_ids(_: int) -> object:
        chosen = generator.integers(0, documents, BATCH)
        return list(kept.find({"_id": {"$in": [_id(int(n)) for n in chosen]}}))

    def an_hour_of_an_episode(number: int) -> object:
        span = {"$gte": last - timedelta(minutes=60), "$lte": last}
        return list(kept.find({"episode_id": f"e{number % EPISODES}", "bucket": span}))

    return {
        "the newest minute": lambda _: list(
            kept.find({}, {"bucket": 1}).sort("bucket", -1).limit(1)
        ),
        "15 minutes, summed by minute": fifteen_minutes,
        "an hour of one episode": an_hour_of_an_episode,
        f"{BATCH:,} documents by _id": some_ids,
        "100 that expire": lambda _: list(
            kept.find({"bucket": {"$lt": last}}, {"_id": 1}).limit(100)
        ),
        "how many there are": lambda _: kept.estimated_document_count(),
    }


def _times(ask: Callable[[int], object], rounds: int) -> dict[str, float]:
    taken = []
    for number in range(rounds):
        began = time.perf_counter()
        ask(number)
        taken.append((time.perf_counter() - began) * 1000)
    median, p95 = (float(np.quantile(taken, share)) for share in (0.5, 0.95))
    return {"median": round(median, 1), "p95": round(p95, 1)}


def _batches(documents: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, documents, BATCH):
        yield [_document(n) for n in range(start, min(start + BATCH, documents))]


def _document(number: int) -> dict[str, Any]:
    counts = {"impressions": 3, "clicks": 2, "plays": 2, "completes": 1, "streams": 2}
    counts |= {"heard_ms": 120_000 + number, "skips": 0}
    return {
        "_id": _id(number),
        "episode_id": f"e{number % EPISODES}",
        "bucket": START + timedelta(minutes=number // EPISODES),
        **counts,
        "parts": {str(part): {**counts, "offset": number} for part in range(PARTITIONS)},
    }


def _id(number: int) -> str:
    return f"e{number % EPISODES}|{START + timedelta(minutes=number // EPISODES):%Y%m%dT%H%M}"


def server_memory(uri: str) -> int:
    """Resident bytes of the process that listens at an address."""
    port = int(uri.rpartition(":")[2])
    (server,) = (
        process
        for process in psutil.Process().children(recursive=True)
        if any(c.laddr.port == port and c.status == "LISTEN" for c in process.net_connections())
    )
    return int(server.memory_info().rss)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
