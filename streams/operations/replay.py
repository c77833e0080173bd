"""Sends every event through again, for stages that are to begin from nothing.

`user-event-batches` is purged behind its readers; what replays it is its source. The stages named
here forget what they have counted, and `batch_events` makes the batches anew from the first event.
Batches may be cut elsewhere then, so whatever a stage has made of the former ones goes before it
counts again: its topics are purged, and the Delta tables made of them emptied. All other stages
know by source offsets, row by row, what they have counted.

The batches go first, and that the stages may start is said last: whenever this ends before, a
stage that has forgotten does not start, and the same call does the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from schemas import columnar
from schemas.registry import RestRegistry, TopicRegistry
from streams.events.batch_progress import KafkaEventLogs, event_source
from streams.events.core.batching import Batch, accounted_to
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Tally
from streams.kafka.clients import send_all
from streams.kafka.purge import commit, committed
from streams.kafka.removal import delete_topics, unless_gone
from streams.operations.strays import strays_counted
from topology.access import admin_client
from topology.apply import apply_topology
from topology.graph import app_id, state_topic
from topology.model import Graph, Stage, Topic
from topology.places import local_folder
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

BATCHING = "batch_events"
BATCHES = USER_EVENT_BATCHES.name
EVENTS = USER_EVENTS.name
TIMEOUT_S = 30.0
LONG_AGO_MS = 1
"""When the record was written that a replay begins with: before any dead letter, so that what was
put aside is known and not put aside again."""


class ReplayError(RuntimeError):
    """Nothing is replayed, and nothing was changed; the message says what to do."""


@dataclass(frozen=True)
class History:
    """What Spark makes of a topic: a Delta table, and the checkpoint of the query that reads it."""

    table: str
    checkpoint: str


def replay(
    settings: Settings,
    graph: Graph,
    registry: TopicRegistry | RestRegistry,
    names: Collection[str],
    histories: Mapping[str, History],
    *,
    checkpoints_removed: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Make ``names`` begin from nothing, and `batch_events` at the first event; how many events
    come again.

    ``histories``: what Spark makes of each topic. ``checkpoints_removed``: those that would have
    to go, and lie where only Spark can remove them, are gone. ``say`` is told each step before it
    is done. Only the broker may run.

    ReplayError for an unknown stage, where one of these runs, and for checkpoints out of reach;
    KafkaException, TimeoutError, DeliveryError and OSError where a step fails: the same call does
    the rest.
    """
    if unknown := sorted(set(names) - graph.stages.keys()):
        raise ReplayError(f"No stage {', '.join(unknown)}: there are {', '.join(graph.stages)}.")
    stages = [graph.stages[name] for name in names]
    remade = _remade(graph, stages, histories)
    admin = admin_client(settings.kafka_bootstrap_servers)
    _require_stopped(admin, _touched(graph, stages, remade))
    with KafkaEventLogs(settings.kafka_bootstrap_servers, TIMEOUT_S) as logs:
        bounds = {p: logs.bounds(BATCHES, p) for p in logs.partitions(BATCHES)}
        ends = {topic: logs.ends(topic) for topic in remade}
        checkpoints = _checkpoints(settings, graph, stages, remade, histories, bounds)
        far = [folder for folder in checkpoints if local_folder(folder) is None]
        if far and not checkpoints_removed:
            raise ReplayError(
                f"Remove {' and '.join(far)}, whose queries would ask for records that are "
                "gone, and say --checkpoints-removed."
            )
        say("looking for events that an older release counted in another partition")
        strays = _strays(settings, graph, registry, logs)
        events = sum(logs.ends(EVENTS).values())
    begun = {p: end for p, (_, end) in bounds.items() if end}

    say(f"purging {BATCHES}")
    send_beginnings(settings, graph.topics[BATCHES], begun, strays)
    _purge(admin, {BATCHES: begun})

    for stage in stages:
        say(f"forgetting what {stage.name} has counted")
        _forget(admin, stage)
        delete_topics(admin, [state_topic(stage, table).name for table in stage.tables], TIMEOUT_S)
    apply_topology(settings, registry, mongo=False)

    if remade:
        say(f"purging {', '.join(remade)}")
        _purge(admin, ends)
    for folder in checkpoints:
        if folder in far:
            continue
        say(f"removing the checkpoint {folder}")
        _remove(settings, folder)
    anew = any(stage.runner == "spark" and BATCHES in stage.consumes for stage in stages)
    for topic in [*remade, *([BATCHES] if anew else [])]:
        say(f"emptying {histories[topic].table}")
        if DeltaTable.is_deltatable(histories[topic].table):
            DeltaTable(histories[topic].table).delete()

    say("letting the stages begin")
    _let_spark_begin(settings, graph, checkpoints, histories)
    for stage in _readers(graph, [BATCHES, *remade]):
        _let_begin(settings, graph, stage, {BATCHES: begun, **ends}, new=stage in stages)
    return events


# -- what is concerned -------------------------------------------------------------------------


def _remade(graph: Graph, stages: Iterable[Stage], histories: Mapping[str, History]) -> list[str]:
    """The topics of rows that these stages make of the events, and that Delta tables are made of.

    They say what events add up to. Records, such as lists and metrics, are facts of their own
    time, and stay.
    """
    return [
        topic
        for stage in stages
        if BATCHES in stage.consumes
        for topic in stage.produces
        if topic in histories and graph.topics[topic].format == "arrow"
    ]


def _readers(graph: Graph, topics: Collection[str]) -> list[Stage]:
    """The stages with consumer groups that read any of the topics."""
    return [
        stage
        for stage in graph.stages.values()
        if stage.runner != "spark" and not set(topics).isdisjoint(stage.consumes)
    ]


def _touched(graph: Graph, stages: Iterable[Stage], remade: Collection[str]) -> list[Stage]:
    """The stages that may not run meanwhile."""
    touched = [graph.stages[BATCHING], *stages, *_readers(graph, [BATCHES, *remade])]
    return list({stage.name: stage for stage in touched}.values())


def _require_stopped(admin: AdminClient, stages: Iterable[Stage]) -> None:
    """Raise ReplayError if a worker of any of the stages runs."""
    groups = {app_id(stage): stage.name for stage in stages}
    asked = admin.describe_consumer_groups(list(groups), request_timeout=TIMEOUT_S)
    running = []
    for group, future in asked.items():
        try:
            if future.result(TIMEOUT_S).members:
                running.append(groups[group])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise
    if running:
        raise ReplayError(
            f"{', '.join(running)} {'is' if len(running) == 1 else 'are'} running: stop all but "
            "the broker first."
        )


def _checkpoints(
    settings: Settings,
    graph: Graph,
    stages: Collection[Stage],
    remade: Collection[str],
    histories: Mapping[str, History],
    bounds: Mapping[int, tuple[int, int]],
) -> list[str]:
    """The checkpoints of queries that would ask for records that are gone, or that have to read
    again what they have read."""
    topics = list(remade)
    for stage in graph.stages.values():
        if stage.runner == "spark" and BATCHES in stage.consumes:
            reached = committed(settings, app_id(stage), graph.topics[BATCHES])
            behind = any(reached.get(p, 0) != end for p, (_, end) in bounds.items())
            if stage in stages or behind:
                topics.append(BATCHES)
    return list(dict.fromkeys(histories[topic].checkpoint for topic in topics))


def _strays(
    settings: Settings, graph: Graph, registry: TopicRegistry | RestRegistry, logs: KafkaEventLogs
) -> dict[int, int]:
    """Source partition -> the offset below which strays count there."""
    topic, source = graph.topics[EVENTS], event_source(settings, graph)
    batched = committed(settings, app_id(graph.stages[BATCHING]), topic)
    for partition in range(topic.partitions):
        # Of the two, the group may have been dropped, and a replay that was cut off begun anew.
        if (last := logs.last(BATCHES, partition)) is not None:
            reached = accounted_to(last.headers() or ())
            batched[partition] = max(batched.get(partition, 0), reached)
    return strays_counted(logs, EVENTS, source, EventDecoder(EVENTS, registry), batched)


# -- the steps, each of which may be done again --------------------------------------------------


def send_beginnings(
    settings: Settings, topic: Topic, places: Collection[int], strays: Mapping[int, int]
) -> None:
    """Send a batch of nothing that accounts for no event: after it `batch_events` begins anew.

    DeliveryError if the topic does not take it.
    """
    schema = str(topic.schema)
    nothing = columnar.frame_of({name: [] for name in columnar.columns(schema)}, schema)
    value = columnar.to_message(nothing, schema, compress=True)
    beginnings = []
    for partition in places:
        tally = Tally(strays_below=strays.get(partition, 0))
        headers = Batch(partition, 0, -1, nothing, tally=tally.header()).headers()
        beginnings.append(
            {
                "value": value,
                "partition": partition,
                "headers": list(headers.items()),
                "timestamp": LONG_AGO_MS,
            }
        )
    send_all(settings.kafka_bootstrap_servers, topic.name, beginnings, TIMEOUT_S)


def _purge(admin: AdminClient, ends: Mapping[str, Mapping[int, int]]) -> None:
    """Purge topics before these offsets, by partition."""
    places = [
        TopicPartition(topic, partition, end)
        for topic, reached in ends.items()
        for partition, end in reached.items()
        if end
    ]
    if places:
        for future in admin.delete_records(places, request_timeout=TIMEOUT_S).values():
            future.result(TIMEOUT_S)


def _forget(admin: AdminClient, stage: Stage) -> None:
    """Remove what a stage has committed."""
    group = app_id(stage)
    removed = admin.delete_consumer_groups([group], request_timeout=TIMEOUT_S)[group]
    unless_gone(removed, KafkaError.GROUP_ID_NOT_FOUND, TIMEOUT_S)


def _remove(settings: Settings, checkpoint: str) -> None:
    """Remove a folder below this instance's checkpoints, whole or not at all for Spark."""
    root, folder = local_folder(settings.checkpoint_root), local_folder(checkpoint)
    if root is None or folder is None or root.resolve() not in folder.resolve().parents:
        raise ReplayError(f"{checkpoint} is not below {settings.checkpoint_root}")
    beside = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(beside, ignore_errors=True)
    if folder.exists():
        folder.rename(beside)
        shutil.rmtree(beside)


def _let_spark_begin(
    settings: Settings,
    graph: Graph,
    checkpoints: Collection[str],
    histories: Mapping[str, History],
) -> None:
    """Say that queries whose checkpoints are gone have read nothing: so they miss nothing."""
    topics = {name for name, history in histories.items() if history.checkpoint in checkpoints}
    for stage in graph.stages.values():
        if stage.runner == "spark":
            read = topics.intersection(stage.consumes)
            nothing = {t: dict.fromkeys(range(graph.topics[t].partitions), 0) for t in read}
            commit(settings, app_id(stage), nothing)


def _let_begin(
    settings: Settings,
    graph: Graph,
    stage: Stage,
    firsts: Mapping[str, Mapping[int, int]],
    *,
    new: bool,
) -> None:
    """Say that a stage is to go on at the first records that there are now.

    One that is not ``new`` and has read nothing is left so: it has missed what others have read.
    """
    for topic in firsts.keys() & set(stage.consumes):
        known = committed(settings, app_id(stage), graph.topics[topic])
        here = {p: first for p, first in firsts[topic].items() if new or p in known}
        commit(settings, app_id(stage), {topic: here})
