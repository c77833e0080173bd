"""Live tables from raw events: ours beside what else a user could run, on the same broker.

One run gives: events a second from raw Avro messages to updated tables and their outputs, with
one `batch_events` and one Faust worker; a plain Faust table agent; `quixstreams` and `bytewax` in
an environment of their own; a confluent-kafka loop without any state, which is the limit; the
time from produce to a readable window at a steady rate; and what an event costs as state grows.
Totals are checked on every side that counts. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from live_path import folds, latency, ours, peers
from live_path.cluster import SOURCE, Cluster, broker_pid, say
from live_path.events import EPISODES, LISTENERS, ZIPF, Generator

from streams.cli.local.broker import running_broker
from streams.cli.local.ports import free_ports
from topology.settings import Settings

PARTITIONS = 12
PEER_TOPIC = "peer-events"
RANKING = (*ours.TRACKERS, "rank_trending", "detect_anomalies")
SEED = 1
EVENTS_PER_EVENT_SECOND = 25_000
"""How fast the preloaded events' own time passes: three million are two minutes."""


def main() -> None:
    """Measure each part in one run and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000_000, help="events preloaded for ours")
    parser.add_argument("--peer-events", type=int, default=60_000, help="events for the peers")
    parser.add_argument("--seconds", type=int, default=30, help="length of the steady rate")
    parser.add_argument("--skip-peers", action="store_true", help="only ours and the limit")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-tables-") as folder:
        home = Path(folder)
        port, controller = free_ports(2)
        with running_broker(home, port, controller) as bootstrap:
            settings = Settings(
                podstream_home=home,
                kafka_bootstrap_servers=bootstrap,
                event_partitions=PARTITIONS,
            )
            cluster = Cluster(settings)
            figures = measure(cluster, broker_pid(port), options)
    machine.report("live_tables", {**figures, "fold_cost": folds.measure()})


def measure(cluster: Cluster, broker: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that needs the broker, one after the other."""
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    generator = Generator(SEED, an_hour_ago, EVENTS_PER_EVENT_SECOND, cluster.schema_id)
    say(f"preloading {options.events} events")
    totals = cluster.preload(SOURCE, generator, options.events)
    limit = peers.limits(cluster, SOURCE, options.events)
    with ours.running(cluster, RANKING, broker) as (processes, progress):
        with_ranking = ours.catch_up(cluster, totals, RANKING, processes, progress)
    cluster.reset()
    with ours.running(cluster, ours.TRACKERS, broker) as (processes, progress):
        tables = ours.catch_up(cluster, totals, ours.TRACKERS, processes, progress)
        steady = latency.measure(cluster, totals, options.seconds)
        ours.check(cluster, totals)
    others = {} if options.skip_peers else _peers(cluster, options.peer_events)
    return {
        "load": {
            "events": options.events,
            "episodes": EPISODES,
            "listeners": LISTENERS,
            "zipf": ZIPF,
            "partitions": PARTITIONS,
            "events_per_event_second": EVENTS_PER_EVENT_SECOND,
        },
        "ours": tables,
        "ours_with_ranking": with_ranking,
        "latency": steady,
        "limit": limit,
        "peers": others,
        "ratios": ratios(tables["events_per_s"], {**limit, **others}),
    }


def _peers(cluster: Cluster, events: int) -> dict[str, dict[str, Any]]:
    now = int(time.time() * 1000)
    generator = Generator(SEED, now, EVENTS_PER_EVENT_SECOND, cluster.schema_id)
    cluster.create(PEER_TOPIC)
    cluster.preload(PEER_TOPIC, generator, events)
    return {
        "plain_faust": peers.plain_faust(cluster, PEER_TOPIC, events),
        **{name: peers.installed(cluster, name, PEER_TOPIC, events) for name in peers.PEERS},
    }


def ratios(ours_per_s: float, others: dict[str, dict[str, Any]]) -> dict[str, float]:
    """How many times as fast ours is; nothing for whoever could not be installed."""
    return {
        f"ours_to_{name}": round(ours_per_s / figures["events_per_s"], 2)
        for name, figures in others.items()
        if "events_per_s" in figures
    }


if __name__ == "__main__":
    main()
