"""A query whose failures are its own: it is launched again, while the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pyspark.sql.streaming.query import StreamingQuery

from jobs.attempts import Attempts
from jobs.kafka_source import Launch, failed_to_report

log = logging.getLogger(__name__)


class RetriedQuery:
    """Call `look` now and then. ``renew`` is called before each launch after a failure."""

    def __init__(self, launch: Launch, attempts: Attempts, renew: Callable[[], None]):
        self._launch = launch
        self._attempts = attempts
        self._renew = renew
        self.query: StreamingQuery | None = None
        """The query that runs; None while it waits for its next launch."""

    def look(self) -> None:
        """Launch the query if it is due, note how it ended if it has, and what has gone well."""
        query = self.query
        if query is None:
            if self._attempts.due_s() == 0:
                self._try_launch()
        elif query.isActive:
            if self._attempts.failing and query.lastProgress is not None:
                self._attempts.succeeded()
        elif failed_to_report(query):
            log.warning("%s has repeated its last micro-batch and goes on", query.name)
            self._try_launch()
        else:
            self.query = None
            self._attempts.failed(query.exception() or RuntimeError("the query has ended"))

    def _try_launch(self) -> None:
        try:
            if self._attempts.failing:
                self._renew()
            self.query = self._launch()
        except Exception as error:
            self.query = None
            self._attempts.failed(error)
