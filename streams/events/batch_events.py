"""Validates listener events, drops repeats and packs them into columnar batches.

``python -m streams.events.batch_events`` is one of any number of processes that share the
partitions of the events. It has no state of its own: every batch says in its headers which source
offsets it accounts for, so the last batch of a partition says where to go on, and the events that a
repeat could repeat are read again from the source. A kill at any moment loses nothing; what was
sent twice carries the same source offsets, by which readers skip it.

A request to forget a listener is answered by a batch of nothing that says so, in its place among
the others. Where nothing comes for a minute and longer, a batch of nothing says that too, so that
nobody waits for what will not come, or takes a backlog for silence.

A listener has one partition, Kafka's default for the id, whatever the key of a record is and
whoever placed it. An event found elsewhere is handed over: sent again to where it belongs. A
version beside the first leaves that to it, and finds the copies in the log.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import columnar
from schemas.codec import BadRecordError, Registry
from streams.events.batch_clients import (
    batch_producer,
    by_partition,
    event_consumer,
    raise_error,
    request_consumer,
)
from streams.events.batch_progress import KafkaEventLogs, event_source, to_chunk
from streams.events.core.batching import Batch
from streams.events.core.events import EventDecoder
from streams.events.core.quiet import QuietPartitions
from streams.events.core.requests import answer, forgotten_record
from streams.events.core.sequencing import (
    CLOCK_SKEW_MS,
    EventTopics,
    Flush,
    ForgottenListener,
    HandOver,
    Refusal,
    Sequencer,
    resume,
)
from streams.kafka.clients import DeliveryError, to_message
from streams.kafka.entry import refusals_as_sentences, require_access
from streams.kafka.log_reader import SPAN_RECORDS, Record
from streams.kafka.purge import purge_while
from streams.kafka.registry import open_registry
from streams.kafka.sizes import letter
from streams.kafka.wire import Wire, dead_letter_headers, error_headers
from streams.monitoring.instruments import Family, family, histogram, measured
from streams.monitoring.logs import set_up_logs
from streams.monitoring.server import serve
from streams.monitoring.spans import spans
from streams.monitoring.tracing import CURRENT, TRACEPARENT
from topology.graph import app_id, dead_letter_name, get_graph
from topology.model import Graph, Stage
from topology.monitoring.metrics import (
    EVENTS,
    STAGE_LATENCY,
    STAGE_PARTITIONS,
    STAGE_READY,
    STAGE_VERSION,
)
from topology.settings import Settings, get_settings
from topology.topics.events import FORGOTTEN_LISTENERS, USER_EVENT_BATCHES

log = logging.getLogger(__name__)

Step = Refusal[Record] | HandOver[Record] | ForgottenListener | Flush | Batch

TIMEOUT_S = 60.0
FEWEST_RECORDS = 200
BRISK_S, SLOW_S = 0.02, 0.045
COMMIT_EVERY_S = 1.0
REPORT_EVERY_S = 60.0
LOOK_S = 5.0
"""Longest that the broker is asked for the end of a partition."""


def register(context: Any) -> None:
    """The same work as a handler of the in-memory runner, to which the context belongs."""
    from streams.events import batch_in_memory

    batch_in_memory.register(context)


class BatchEvents:
    """The stage against a broker: call `run` from the thread that made it."""

    def __init__(self, stage: Stage, settings: Settings, graph: Graph, registry: Registry):
        self._source, self._asked = stage.consumes
        target, forgotten = (graph.topic(t).name for t in (USER_EVENT_BATCHES, FORGOTTEN_LISTENERS))
        dead = dead_letter_name(self._source, graph.version)
        places = event_source(settings, graph)
        self._topics = EventTopics(self._source, target, dead, forgotten, places)
        self._graph, self._stage, self._settings = graph, stage, settings
        self._wire = Wire(graph, registry)
        self._schema = str(graph.topics[target].schema)
        self._decoder = decoder = EventDecoder(self._source, registry)
        self._sequencer: Sequencer[Record] = Sequencer(decoder, to_chunk)
        self._latency = histogram(STAGE_LATENCY).labels(stage.name, self._source)
        self._span = spans(settings, stage.worker, stage.name)
        self._was_assigned = False
        self._delivered: dict[tuple[str, int], int] = {}
        self._quiet = QuietPartitions()
        self._committed_at = self._reported_at = time.monotonic()
        self._failure: KafkaError | None = None
        servers = settings.kafka_bootstrap_servers
        self._producer = batch_producer(servers)
        self._consumer = event_consumer(servers, app_id(stage))
        self._requests = request_consumer(servers)

    def run(self, stop: threading.Event) -> None:
        """Batch until told to stop. Raises DeliveryError, LogMismatchError and KafkaException."""
        self._consumer.subscribe(
            [self._source], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        linger_s = self._settings.batch_linger_ms / 1000
        limit = FEWEST_RECORDS
        try:
            while not stop.is_set():
                started = time.monotonic()
                records = self._consumer.consume(limit, timeout=linger_s)
                limit = _adapted(limit, len(records), time.monotonic() - started)
                self._take(records)
                self._answer(self._requests.consume(FEWEST_RECORDS, timeout=0))
                self._producer.poll(0)
                self._raise_failure()
                self._housekeeping()
            self._settle()
            self._commit(asynchronous=False)
        finally:
            self._report()
            self._consumer.close()
            self._requests.close()

    def _take(self, records: list[Record]) -> None:
        raise_error(records)
        groups = by_partition(records)
        self._quiet.heard(groups, time.monotonic())
        for step in self._sequencer.steps(groups):
            oldest = groups[step.partition][0].timestamp()[1] if isinstance(step, Batch) else 0
            self._do(step, oldest / 1000)

    def _tell_quiet(self) -> None:
        """Say of the partitions in which nothing comes any more up to when that is true."""
        for partition in self._quiet.due(time.monotonic()):
            # Before it is asked for: what comes afterwards is not in the answer.
            now_s = time.time()
            try:
                ended = self._has_ended(partition)
            except KafkaException as error:
                log.warning("%s[%d] could not be looked at: %s", self._source, partition, error)
                continue
            if ended:
                # Nothing has come for as long as that.
                quiet_ms = int(now_s * 1000) - CLOCK_SKEW_MS
                self._do(self._sequencer.quiet(partition, quiet_ms), now_s)

    def _has_ended(self, partition: int) -> bool:
        """Whether a partition has no record beyond the batches; KafkaException if nobody says.

        Markers of transactions take offsets as well.
        """
        place, start = (
            TopicPartition(self._source, partition),
            self._sequencer.next_offset(partition),
        )
        _, end = self._consumer.get_watermark_offsets(place, LOOK_S)
        if start >= end:
            return True
        with KafkaEventLogs(self._settings.kafka_bootstrap_servers, LOOK_S) as logs:
            return not any(logs.span(self._source, partition, start, end, FEWEST_RECORDS))

    def _answer(self, records: list[Record]) -> None:
        """Answer requests to forget listeners, each between two batches of its partition."""
        if not records:
            return
        raise_error(records)
        with KafkaEventLogs(self._settings.kafka_bootstrap_servers) as logs:
            self._answer_by(logs, records)

    def _answer_by(self, logs: KafkaEventLogs, records: list[Record]) -> None:
        for record in records:
            message = to_message(record)
            for step in answer(
                self._sequencer,
                record,
                message,
                lambda asked: self._wire.decode(asked.topic, asked.value),
                partial(logs.offset_since, self._source),
                self._topics.places.partitions,
            ):
                self._do(step, message.timestamp_ms / 1000)

    def _do(self, step: Step, oldest_s: float) -> None:
        """Take a step; of a batch, the oldest record was appended at ``oldest_s``, Unix time."""
        if isinstance(step, Refusal):
            self._dead_letter(step.record, step.error)
        elif isinstance(step, HandOver):
            if self._stage.hands_over:
                self._hand_over(step)
        elif isinstance(step, ForgottenListener):
            if self._topics.forgotten in self._stage.produces:
                self._remember(step)
        elif isinstance(step, Batch):
            self._send(step, oldest_s)
        else:
            self._settle()

    def _remember(self, step: ForgottenListener) -> None:
        record = forgotten_record(step.partition, step.forgetting)
        self._produce(
            topic=self._topics.forgotten,
            value=self._wire.encode(self._topics.forgotten, record),
            key=step.forgetting.user_id.encode(),
            partition=step.partition,
            headers=list(step.forgetting.headers().items()),
            on_delivery=self._note_failure,
        )

    def _send(self, batch: Batch, oldest_s: float) -> None:
        """Send a batch whose oldest record was appended at ``oldest_s``, Unix time in seconds."""
        requests = self._sequencer.next_request(batch.partition)

        def delivered(error: KafkaError | None, _: Record) -> None:
            if error is None:
                self._delivered[self._source, batch.partition] = batch.last_offset + 1
                if requests:
                    self._delivered[self._asked, batch.partition] = requests
                self._latency.observe(max(0.0, time.time() - oldest_s))
            else:
                self._failure = error

        CURRENT.set(batch.trace)
        with self._span(self._source, len(batch.events)):
            headers = batch.headers()
            if trace := CURRENT.get():
                headers[TRACEPARENT] = trace
            self._produce(
                topic=self._topics.target,
                value=columnar.to_message(batch.events, self._schema, compress=True),
                partition=batch.partition,
                headers=list(headers.items()),
                on_delivery=delivered,
            )

    def _hand_over(self, step: HandOver[Record]) -> None:
        self._produce(
            topic=self._source,
            value=step.value,
            key=step.key,
            partition=step.partition,
            headers=step.headers,
            on_delivery=self._note_failure,
        )

    def _note_failure(self, error: KafkaError | None, _: Record) -> None:
        self._failure = error or self._failure

    def _dead_letter(self, record: Record, error: BadRecordError) -> None:
        topic = record.topic()
        dead = dead_letter_name(topic, self._graph.version)
        errors = error_headers(topic, record.partition(), record.offset(), self._stage.name, error)
        headers = dead_letter_headers(record.headers() or (), errors)
        made = letter(self._graph.topics[dead], record.key(), record.value(), headers)
        self._produce(
            topic=dead,
            value=made.value,
            key=made.key,
            partition=0,
            headers=made.headers,
            on_delivery=self._note_failure,
        )

    def _produce(self, **record: Any) -> None:
        while True:
            try:
                return self._producer.produce(**record)
            except BufferError:
                self._producer.poll(0.1)
                self._raise_failure()

    def _settle(self) -> None:
        """Return when everything sent is in the log."""
        left = self._producer.flush(TIMEOUT_S)
        self._raise_failure()
        if left:
            raise DeliveryError(f"{left} records were not delivered within {TIMEOUT_S:.0f} s")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DeliveryError(str(self._failure))

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now - self._committed_at >= COMMIT_EVERY_S:
            self._commit(asynchronous=True)
            self._tell_quiet()
            self._committed_at = now
        if now - self._reported_at >= REPORT_EVERY_S:
            self._report()
            self._reported_at = now

    def _commit(self, *, asynchronous: bool) -> None:
        """Tell the group how far the batches reach: for whoever measures lag, not for us."""
        offsets = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in self._delivered.items()
            if self._sequencer.owns(partition)
        ]
        self._delivered.clear()
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("offsets were not committed: %s", error)

    def _report(self) -> None:
        log.info("events so far: %s", dict(self._sequencer.counts))

    # -- being asked, by other threads ---------------------------------------------------------

    def missing(self) -> list[str]:
        """What is missing for the stage to be ready, in sentences."""
        return [] if self._was_assigned else [f"{self._stage.name} waits for its partitions"]

    def families(self) -> tuple[Family, ...]:
        """The metrics of the stage that are measured when somebody asks."""
        stage, counts = (self._stage.name,), self._sequencer.counts.copy()
        return (
            family(EVENTS, {(outcome,): number for outcome, number in counts.items()}),
            family(STAGE_READY, {stage: not self.missing()}),
            family(STAGE_VERSION, {stage: self._stage.version}),
            family(STAGE_PARTITIONS, {stage: self._sequencer.owned()}),
        )

    # -- partitions come and go --------------------------------------------------------------

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Whatever an earlier owner in this process sent is in the log before the log is asked.
        self._settle()
        places = []
        with KafkaEventLogs(self._settings.kafka_bootstrap_servers) as logs:
            for partition in sorted(part.partition for part in partitions):
                found = resume(
                    logs, self._topics, partition, self._settings.dedup_window, self._decoder
                )
                self._sequencer.own(found)
                # What was asked before comes before any batch of this owner: a request that is
                # answered again, as in a replay, forgets nothing that came after it.
                first, end = logs.bounds(self._asked, partition)
                start = max(first, self._sequencer.next_request(partition))
                for records in logs.span(self._asked, partition, start, end):
                    self._answer_by(logs, records)
                places.append(TopicPartition(self._source, partition, found.next_offset))
                log.info("%s[%d] goes on at %d", self._source, partition, found.next_offset)
        consumer.incremental_assign(places)
        self._quiet.heard([place.partition for place in places], time.monotonic())
        self._follow_requests()
        self._was_assigned = True

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._commit(asynchronous=False)
        self._lost(consumer, partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for part in partitions:
            self._sequencer.disown(part.partition)
            self._quiet.forget(part.partition)
        consumer.incremental_unassign(partitions)
        self._follow_requests()

    def _follow_requests(self) -> None:
        """Read the requests of the partitions that are owned, from the first unanswered one."""
        self._requests.assign(
            [
                TopicPartition(self._asked, partition, self._sequencer.next_request(partition))
                for partition in range(self._topics.places.partitions)
                if self._sequencer.owns(partition)
            ]
        )


def _adapted(limit: int, read: int, seconds: float) -> int:
    """How many records to wait for next: as many as come within 20 to 45 ms.

    So events wait for a fuller batch as long as the linger time only where few come.
    """
    if read == limit and seconds < BRISK_S:
        return min(limit * 2, SPAN_RECORDS)
    if read < limit or seconds > SLOW_S:
        return max(limit // 2, FEWEST_RECORDS)
    return limit


def main() -> None:
    """Run until SIGTERM or SIGINT; exit 0 if everything read is in the log."""
    settings, graph = get_settings(), get_graph()
    stage = graph.stages["batch_events"]
    set_up_logs(settings, stage.worker)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Every poll makes 20,000 objects that die young and refer to nothing: not a case for the
    # collector of cycles, which would look through all of them again and again.
    gc.freeze()
    gc.set_threshold(20 * SPAN_RECORDS)
    with refusals_as_sentences():
        require_access(settings)
        if graph.version:  # what the first version makes is purged by those who write Delta
            purging = threading.Thread(target=purge_while, args=(settings, graph, stop))
            purging.daemon = True
            purging.start()
        batches = BatchEvents(stage, settings, graph, open_registry(settings))
        measured(batches.families)
        serve(settings, stage.worker, ready=batches.missing)
        batches.run(stop)


if __name__ == "__main__":
    main()
