"""The attempts of a stage whose failure must not end the others of the application.

An attempt that may take the whole process with it, by its memory, is noted before it is made: the
process that follows then finds it in the log and waits as after any failure, and what else runs in
the application goes on meanwhile.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from jobs.core.backoff import told, wait_s
from jobs.output import Output
from streams.kafka.log_reader import read_all
from topology.graph import check_reads
from topology.model import Graph, Stage
from topology.settings import Settings
from topology.topics.operations import STAGE_FAILURES

log = logging.getLogger(__name__)

TOPIC = STAGE_FAILURES.name
ENDED = "the process ended during the attempt: see its log, and its memory"


class Attempts:
    """How often a stage has failed in a row, kept in `stage-failures` under the stage's name.

    To be used from one thread. Raises what `Output` does.
    """

    def __init__(self, settings: Settings, graph: Graph, stage: Stage):
        check_reads(stage, TOPIC)
        self._stage = stage.name
        self._output = Output(settings, graph, stage)
        self._failed = 0
        self._error = ""
        self._retry_at = dt.datetime.now(dt.UTC)
        self._begun = False
        self._restore(settings)

    def _restore(self, settings: Settings) -> None:
        newest: dict[bytes | None, Any] = {}

        def apply(messages: list[Any]) -> None:
            newest.update((message.key, message.value) for message in messages)

        read_all(settings.kafka_bootstrap_servers, [TOPIC], apply)
        value = newest.get(self._stage.encode())
        if value is None:
            return
        record = self._output.wire.decode(TOPIC, value)
        self._failed, self._error = record["attempts"], record["error"]
        self._retry_at = record["retry_at"]
        if not self._error:
            self._tell(ENDED)

    @property
    def failing(self) -> bool:
        """Whether the latest attempt failed, or is under way."""
        return self._failed > 0

    def due_s(self) -> float:
        """Seconds until an attempt is due; 0 for now."""
        left = (self._retry_at - dt.datetime.now(dt.UTC)).total_seconds()
        # whatever the clock did in between, no longer than the failures are worth
        return max(0.0, min(left, wait_s(self._failed)))

    def begin(self) -> None:
        """Note an attempt that might end the process: it counts as failed until it succeeds."""
        self._failed += 1
        self._begun = True
        self._send("")

    def failed(self, error: BaseException) -> None:
        """Note and tell that an attempt has failed."""
        self._failed += 0 if self._begun else 1
        self._begun = False
        told_s = f"{wait_s(self._failed):.0f} s"
        log.error(
            "%s failed, attempt %d; it is tried again in %s",
            self._stage,
            self._failed,
            told_s,
            exc_info=error,
        )
        self._tell(told(error))

    def succeeded(self) -> None:
        """Forget the failures."""
        self._begun = False
        self._retry_at = dt.datetime.now(dt.UTC)
        if self._failed:
            self._failed, self._error = 0, ""
            self._output.send(TOPIC, None, self._stage)
            self._output.flush()

    def interrupted(self) -> None:
        """An attempt that was told to stop has not failed."""
        if not self._begun:
            return
        if self._failed == 1:
            self.succeeded()
            return
        self._begun = False
        self._failed -= 1
        self._send(self._error)

    def _tell(self, error: str) -> None:
        self._error = error
        self._send(error)

    def _send(self, error: str) -> None:
        now = dt.datetime.now(dt.UTC)
        self._retry_at = now + dt.timedelta(seconds=wait_s(self._failed))
        record = {
            "stage": self._stage,
            "attempts": self._failed,
            "error": error,
            "at": now,
            "retry_at": self._retry_at,
        }
        self._output.send(TOPIC, record, self._stage)
        self._output.flush()
