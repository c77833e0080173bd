"""What the Spark application tells of its queries when somebody asks for its metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.sql.streaming.query import StreamingQuery

from streams.monitoring.instruments import Family, family
from topology.monitoring.metrics import QUERY_ACTIVE, QUERY_BATCH, QUERY_ROWS

log = logging.getLogger(__name__)

Queries = Callable[[], Sequence[StreamingQuery]]


def missing(queries: Queries) -> list[str]:
    """What is missing for the application to be ready, in sentences."""
    try:
        found = queries()
        if not found:
            return ["the queries have not begun"]
        return [f"{query.name} does not run" for query in found if not query.isActive]
    except (Py4JError, Py4JNetworkError, OSError) as error:
        return [f"Spark does not answer: {error}"]


def families(queries: Queries) -> list[Family]:
    """The metrics of the queries; none while Spark does not answer."""
    activity: dict[tuple[str, ...], float] = {}
    seconds: dict[tuple[str, ...], float] = {}
    rows: dict[tuple[str, ...], float] = {}
    try:
        for query in queries():
            labels = (query.name,)
            activity[labels] = query.isActive
            if (progress := query.lastProgress) is not None:
                seconds[labels] = progress.batchDuration / 1000
                rows[labels] = progress.numInputRows
    except (Py4JError, Py4JNetworkError, OSError) as error:
        log.debug("the queries do not say how they are: %s", error)
    return [
        family(QUERY_ACTIVE, activity),
        family(QUERY_BATCH, seconds),
        family(QUERY_ROWS, rows),
    ]
