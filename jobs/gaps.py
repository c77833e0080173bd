"""Whether records are gone that a query of Spark has still to read.

Nothing of ours takes them away: what derives from other topics is purged behind its readers
(`streams.kafka.purge`), and nothing else that Spark reads expires. Yet a hand can, or a broker with
settings of its own. Spark then ends in a stack trace, again at each start; and to go on behind the
gap would be worse, for the tables know what they have by its highest offset: they would take what
is missing for a repeat ever after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from deltalake import DeltaTable as DeltaLog

from jobs.applied import read_applied
from jobs.core.facts import FACTS
from jobs.forgetting import noted
from streams.kafka.log_reader import LogReader
from streams.kafka.purge import committed
from streams.operations.checkpoints import checkpoints
from streams.operations.replay import History
from topology.graph import app_id
from topology.model import Graph
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES


class GapError(RuntimeError):
    """Records are gone that no query has read; the message says which, and what to do."""


def check_gaps(settings: Settings, graph: Graph, histories: Mapping[str, History]) -> None:
    """Raise GapError if a topic begins behind the place where its query goes on, or ends before it.

    ``histories`` says of each topic what it becomes. A query without a checkpoint goes on where the
    topic begins. If it has reported progress before (`jobs.housekeeping`), what it had read may be
    purged: if the table has nothing of that partition, it is no more.
    A compacted topic may begin anywhere: what is left of it is the newest of each key. Checkpoints
    in an object store that only Spark knows are not looked at.
    """
    progress = checkpoints(settings.checkpoint_root)
    if progress is None:
        return
    found: dict[str, list[str]] = {}
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for name, history in histories.items():
            declared = graph.topics[name]
            if declared.cleanup == "compact":
                continue
            query = history.checkpoint.removeprefix(f"{settings.checkpoint_root.rstrip('/')}/")
            bounds = {number: logs.bounds(name, number) for number in range(declared.partitions)}
            if (reached := progress.get(query, {}).get(name)) is not None:
                told = [
                    why
                    for number, offset in sorted(reached.items())
                    if (why := _gap(f"{name}[{number}]", query, offset, bounds[number])) is not None
                ]
            else:
                stage = graph.stages[query.partition("/")[0]]
                read = committed(settings, app_id(stage), declared)
                begun = {n: first for n, (first, _) in bounds.items() if first and read.get(n)}
                told = _not_in(history.table, name, query, begun)
            if told:
                found[name] = told
    if found:
        gone = "; ".join(why for of_topic in found.values() for why in of_topic)
        raise GapError(f"{gone}. {_way_out(graph, found)}docs/runbook.md says what that means.")


def _not_in(table: str, topic: str, query: str, begun: Mapping[int, int]) -> list[str]:
    """What is missing of partitions that begin at these offsets, if a table has nothing of them."""
    if not begun:
        return []
    source = FACTS[topic].source
    held: Collection[int] = ()
    if DeltaLog.is_deltatable(table):
        if source is not None:
            # Of a partition all of whose listeners are forgotten there are no rows left.
            held = {*read_applied(table, source), *noted(table, begun)}
        elif DeltaLog(table).to_pyarrow_dataset().head(1).num_rows:
            held = begun.keys()
    return [
        f"{topic}[{number}] begins at {first}, {query} has no checkpoint, and the table in {table} "
        f"holds nothing of it: {first} records are gone"
        for number, first in begun.items()
        if number not in held
    ]


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
