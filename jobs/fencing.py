"""One writer a table: who comes later takes over, and what an earlier one still commits is refused.

Rows and progress are one commit, so a repeat by *one* writer does nothing. A second one, such as an
application on another machine that was cut off for a while, has read the progress earlier, and
would add what is there by now. So each writer takes the next epoch of a table before it reads how
far the table is, and every commit of it carries the epoch, and a number within it, as Delta's own
record of an application's transactions. Delta compares these as part of the commit, whoever made
it: delta-rs ends a commit that began before another writer's, Spark passes over one with a lower
number.

A table also says of which log its offsets are: those of another one would pass for repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake import DeltaTable as DeltaLog
from deltalake.exceptions import CommitFailedError
from pyspark.sql import SparkSession

from jobs.maintenance import PACKED

APP_ID = "podstream.writer"
LOG = "podstream.log"
"""Property of a table: the id that Kafka gave to the topic of the batches that it is made of. The
offsets are those of `user-events`, which Spark may not even ask about; one is not made anew without
the other."""

EPOCH_BITS = 32
"""Below them in a transaction's number is the count of commits in the epoch."""

_SPARK_ID = "spark.databricks.delta.write.txnAppId"
_SPARK_NUMBER = "spark.databricks.delta.write.txnVersion"


class FencedError(RuntimeError):
    """Another writer has taken a table over."""


class ForeignTableError(RuntimeError):
    """A table holds the offsets of another log."""


def bind(path: str, log_id: str) -> None:
    """Note of a table which log it is of. ForeignTableError if it is of another one."""
    table = DeltaLog(path)
    bound = table.metadata().configuration.get(LOG)
    if bound is None:
        table.alter.set_table_properties({LOG: log_id}, raise_if_not_exists=False)
    elif bound != log_id:
        raise ForeignTableError(
            f"The Delta table {path} was written from another log of events ({bound}, this one is "
            f"{log_id}), so its offsets mean nothing here. Choose another DELTA_ROOT; or, if that "
            "log is no more, remove the tables and the checkpoints of this instance to begin anew."
        )


class WriterEpoch:
    """The right to write one table, from when it is made until somebody else makes one."""

    def __init__(self, path: str):
        """Take over the table. FencedError if somebody else does at the same moment."""
        self._path = path
        table = DeltaLog(path)
        epoch = ((table.transaction_version(APP_ID) or 0) >> EPOCH_BITS) + 1
        self._last = epoch << EPOCH_BITS
        try:
            table.create_write_transaction(
                [], "append", table.schema(), commit_properties=self._properties(self._last)
            )
        except CommitFailedError as error:
            raise self._fenced() from error

    def append(self, rows: pa.Table) -> None:
        """Append few rows, by delta-rs. FencedError if the table is somebody else's."""
        with self._by_delta_rs() as (table, properties):
            write_deltalake(
                table,
                rows,
                mode="append",
                writer_properties=PACKED,
                commit_properties=properties,
            )

    def delete(self, rows: str, notes: Mapping[str, int]) -> int:
        """Delete rows, by delta-rs, and note numbers under names; how many rows there were.

        ``rows`` is a condition in SQL. Both are one commit, which is made also where nothing is to
        be deleted. FencedError if the table is somebody else's.
        """
        with self._by_delta_rs(notes) as (table, properties):
            deleted = table.delete(rows, writer_properties=PACKED, commit_properties=properties)
            if table.transaction_version(APP_ID) == self._last:
                table.create_write_transaction(
                    [], "append", table.schema(), commit_properties=properties
                )
        return int(deleted.get("num_deleted_rows", 0))

    @contextmanager
    def _by_delta_rs(
        self, notes: Mapping[str, int] | None = None
    ) -> Iterator[tuple[DeltaLog, CommitProperties]]:
        """A block in which delta-rs makes one commit to the table, with these properties.

        FencedError if the table is somebody else's.
        """
        table = DeltaLog(self._path)
        self._check(table)
        try:
            yield table, self._properties(self._last + 1, notes)
        except CommitFailedError as error:
            self._check(DeltaLog(self._path))  # what came in between may have been something else
            raise error
        self._last += 1

    @contextmanager
    def by_spark(self, spark: SparkSession) -> Iterator[None]:
        """A block in which Spark makes one commit to the table.

        FencedError if the table is somebody else's, whose commit then stands alone.
        """
        spark.conf.set(_SPARK_ID, APP_ID)
        spark.conf.set(_SPARK_NUMBER, str(self._last + 1))
        try:
            yield
        finally:
            spark.conf.unset(_SPARK_ID)
            spark.conf.unset(_SPARK_NUMBER)
            found = DeltaLog(self._path).transaction_version(APP_ID)
            if found == self._last + 1:
                self._last += 1
            elif found != self._last:
                raise self._fenced()

    def _check(self, table: DeltaLog) -> None:
        if table.transaction_version(APP_ID) != self._last:
            raise self._fenced()

    def _fenced(self) -> FencedError:
        return FencedError(
            f"Another Spark application has taken over the Delta table {self._path}. Nothing was "
            "written twice. If both were meant to run, give one of them another DELTA_ROOT."
        )

    @staticmethod
    def _properties(number: int, notes: Mapping[str, int] | None = None) -> CommitProperties:
        numbers = {APP_ID: number, **(notes or {})}
        return CommitProperties(app_transactions=[Transaction(*one) for one in numbers.items()])
