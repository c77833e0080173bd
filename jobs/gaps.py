"""Whether records are gone that a query of Spark has still to read.

Nothing of ours takes them away: what derives from other topics is purged behind its readers
(`streams.kafka.purge`), and nothing else that Spark reads expires. Yet a hand can, or a broker with
settings of its own. Spark then ends in a stack trace, again at each start; and to go on behind the
gap would be worse, for the tables know what they have by its highest offset: they would take what
is missing for a repeat ever after.
"""

from __future__ import annotations

from collections.abc import Collection

from streams.kafka.log_reader import LogReader
from streams.operations.checkpoints import checkpoints
from topology.model import Graph
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES


class GapError(RuntimeError):
    """Records are gone that no query has read; the message says which, and what to do."""


def check_gaps(settings: Settings, graph: Graph, queries: Collection[str]) -> None:
    """Raise GapError if a topic begins behind the place where a query goes on, or ends before it.

    ``queries`` are the folders of their checkpoints: others may have been left by older releases.
    A compacted topic may begin anywhere: what is left of it is the newest of each key. Checkpoints
    in an object store that only Spark knows are not looked at.
    """
    found: dict[str, list[str]] = {}
    progress = checkpoints(settings.checkpoint_root) or {}
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for query in progress.keys() & set(queries):
            for name, partitions in progress[query].items():
                declared = graph.topics.get(name)
                if declared is None or declared.cleanup == "compact":
                    continue
                for partition, offset in sorted(partitions.items()):
                    why = _gap(f"{name}[{partition}]", query, offset, logs.bounds(name, partition))
                    if why is not None:
                        found.setdefault(name, []).append(why)
    if found:
        told = "; ".join(why for of_topic in found.values() for why in of_topic)
        raise GapError(f"{told}. {_way_out(graph, found)}docs/runbook.md says what that means.")


def _gap(place: str, query: str, offset: int, bounds: tuple[int, int]) -> str | None:
    """What is missing where a query goes on at an offset; None if nothing is."""
    first, end = bounds
    here = f"and {query} goes on at {offset}"
    if first > offset:
        return f"{place} begins at {first}, {here}: {first - offset} records are gone"
    if end < offset:
        return f"{place} ends at {end}, {here}: the topic was made anew, or cut"
    return None


def _way_out(graph: Graph, topics: Collection[str]) -> str:
    """Which stages to replay, so that what is gone is computed again from the events."""
    batches = USER_EVENT_BATCHES.name
    remade = {
        name: next(
            (
                stage.name
                for stage in graph.stages.values()
                if graph.topics[name].format == "arrow"
                and batches in stage.consumes
                and (name in stage.produces or (name == batches and stage.runner == "spark"))
            ),
            None,
        )
        for name in topics
    }
    stages = sorted({stage for stage in remade.values() if stage is not None})
    again = f"`podstream replay {' '.join(stages)}` computes it again. " if stages else ""
    lost = sorted(name for name, stage in remade.items() if stage is None)
    return again + (f"What is gone of {', '.join(lost)} cannot be. " if lost else "")
