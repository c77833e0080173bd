"""The read API under a steady load: how long its answers take, at so many requests a second.

Requests are sent when they are due, however long the ones before take, over connections that stay
open, and each answer's time counts from the moment its request was due. Half ask for a list, of
listeners in turn, the rest for similar and trending episodes and statistics. Without `--home` a
demo is started in a folder of its own, runs for `--settle` seconds and is stopped; with it the
instance that runs there is asked, and left alone. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import machine
import numpy as np
import psutil
from pymongo import MongoClient

from streams.cli.local.ports import free_range
from topology.settings import Settings, instance_file

CONNECTIONS = 32
WARM_S = 5.0


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--home", type=Path, help="PODSTREAM_HOME of a running instance")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--settle", type=float, default=60.0, help="seconds the demo runs before")
    options = parser.parse_args()
    with _instance(options.home, options.settle) as settings:
        paths = _paths(settings)
        print(f"{len(paths)} different requests …", file=sys.stderr)
        asyncio.run(_load(settings, paths, options.rate, WARM_S))
        busy = _busy()
        taken, statuses = asyncio.run(_load(settings, paths, options.rate, options.seconds))
        cores = _busy() - busy
    figures = {
        name: round(float(np.quantile(taken, share)) * 1000, 2)
        for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
    }
    machine.report(
        "read_api",
        {
            "requests_per_s": options.rate,
            "requests": len(taken),
            "statuses": statuses,
            "ms": {**figures, "largest": round(max(taken) * 1000, 2)},
            "busy_cores_of_the_machine": round(cores / options.seconds, 2),
        },
    )


@contextmanager
def _instance(home: Path | None, settle_s: float) -> Iterator[Settings]:
    if home is not None:
        yield Settings(podstream_home=home, _env_file=instance_file(home))
        return
    with tempfile.TemporaryDirectory(prefix="read-api-") as folder:
        environment = {
            **os.environ,
            "PODSTREAM_HOME": folder,
            "PODSTREAM_PORT_BASE": str(free_range(40)),
        }
        podstream = [sys.executable, "-m", "streams.cli.main"]
        started = [*podstream, "up", "--demo", "--detach"]
        try:
            subprocess.run(started, env=environment, stdout=sys.stderr, check=True)
            time.sleep(settle_s)
            yield Settings(podstream_home=Path(folder), _env_file=instance_file(Path(folder)))
        finally:
            subprocess.run([*podstream, "down"], env=environment, stdout=sys.stderr, check=True)


def _paths(settings: Settings) -> list[str]:
    """What is asked, in turn: every listener's list once, other questions between them."""
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        database = client[settings.mongodb_database]
        listeners = [d["_id"] for d in database["final_recommendations"].find({}, {"_id": 1})]
        fields = {"_id": 1, "show_id": 1}
        episodes = list(database["episodes"].find({}, fields).limit(len(listeners)))
    paths = []
    for number, listener in enumerate(listeners):
        episode = episodes[number % len(episodes)]
        others = (
            f"/v1/episodes/{quote(episode['_id'])}/similar",
            f"/v1/episodes/{quote(episode['_id'])}/stats",
            "/v1/trending",
            f"/v1/shows/{quote(episode['show_id'])}/stats",
        )
        query = "?explicit=false&language=en" if number % 4 == 0 else ""
        paths.append(f"/v1/listeners/{quote(listener)}/recommendations{query}")
        paths.append(others[number % len(others)])
    return paths


async def _load(
    settings: Settings, paths: list[str], rate: float, seconds: float
) -> tuple[list[float], dict[str, int]]:
    """Send requests at a rate; the seconds that each answer took, and how many had each status."""
    address = urlsplit(settings.api_url)
    token = settings.api_token.get_secret_value()
    headers = f"Host: {address.netloc}\r\n" + (f"Authorization: Bearer {token}\r\n" * bool(token))
    due: asyncio.Queue[tuple[float, str]] = asyncio.Queue()
    taken: list[float] = []
    statuses: Counter[str] = Counter()

    async def work() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while True:
            at, path = await due.get()
            writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("ascii").lower().split("\r\n")
            length = next(line for line in lines if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            taken.append(time.perf_counter() - at)
            statuses[lines[0].split()[1]] += 1
            due.task_done()

    workers = [asyncio.create_task(work()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        at = began + number / rate
        if (early := at - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        due.put_nowait((at, paths[number % len(paths)]))
    everything = asyncio.create_task(due.join())
    done, _ = await asyncio.wait(
        {everything, *workers}, return_when=asyncio.FIRST_COMPLETED, timeout=60
    )
    for worker in workers:
        if worker in done:
            worker.result()  # raises what ended it
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    if everything not in done:
        raise TimeoutError("The API has not answered everything within a minute.")
    return taken, dict(statuses)


def _busy() -> float:
    """Seconds that the machine's cores have worked since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


if __name__ == "__main__":
    main()
