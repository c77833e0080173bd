"""What became of events on their way in: which came before, and which lay in another's partition.

`batch_events` keeps the counts in the headers of its batches, so the newest batch of each partition
has them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streams.events.core.origins import UNKNOWN, Tally, tally_of
from streams.kafka.log_reader import LogReader
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES


@dataclass(frozen=True)
class Arrivals:
    """Over all partitions, since the topics were made."""

    repeated: int = 0
    """Events that came before, and count once."""
    handed_over: dict[str, int] = field(default_factory=dict)
    """Events that lay in another partition than their listener's, by who produced them."""


def arrivals_of(tallies: list[Tally]) -> Arrivals:
    """The tallies of all partitions added up."""
    clients: Counter[str] = Counter()
    for tally in tallies:
        clients.update(tally.clients)
    return Arrivals(sum(tally.repeated for tally in tallies), dict(clients.most_common()))


def measure_arrivals(settings: Settings, timeout_s: float) -> Arrivals:
    """What the newest batches say; nothing while their topic is not there. KafkaException."""
    topic = USER_EVENT_BATCHES.name
    with LogReader(settings.kafka_bootstrap_servers, timeout_s, log_level=0) as logs:
        if not logs.exists(topic):
            return Arrivals()
        newest = [logs.last(topic, partition) for partition in logs.partitions(topic)]
    return arrivals_of([tally_of(record.headers()) for record in newest if record is not None])


def arrivals_line(arrivals: Arrivals) -> str | None:
    """A sentence about them, if there is anything to say."""
    told = []
    if arrivals.repeated:
        told.append(f"{arrivals.repeated:,} events came more than once and count once.")
    if arrivals.handed_over:
        total = sum(arrivals.handed_over.values())
        by_client = ", ".join(
            f"{'producers that do not say who they are' if name == UNKNOWN else name} {count:,}"
            for name, count in arrivals.handed_over.items()
        )
        told.append(
            f"{total:,} events lay in another partition than their listener's and were handed over "
            f"({by_client}): a producer that places keys by murmur2 spares that."
        )
    return " ".join(told) or None
