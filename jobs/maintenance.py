"""Keeps Delta tables as large as their rows: small files are joined, and what is not live leaves.

A commit every ten seconds leaves a small file, or, where it merges, a new copy of what it touched
beside the old one, and an entry of the table's log. Left alone a table of 0.3 MB lies in 30 MB
after an hour. Whoever writes a table calls `Maintenance.committed` between two of its commits, so
that the table has one writer still. What is done then follows from the number of commits, not from
how large the table has become: only files below `TARGET_BYTES` are joined, and only files named in
the newest part of the log are looked at.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from deltalake import DeltaTable as DeltaLog
from deltalake import WriterProperties
from deltalake.exceptions import DeltaError

from topology.model import MEGABYTE

log = logging.getLogger(__name__)

EVERY_COMMITS = 50

TARGET_BYTES = 32 * MEGABYTE
"""A file of this size is not touched again. Larger ones would be written again and again while they
grow, and parquet gains nothing from them."""

KEEP_HOURS = 1
"""How long a file stays that is not live any more: whoever opened the table reads it that long."""

TABLE_PROPERTIES = {
    "delta.enableDeletionVectors": "false",  # delta-rs cannot read them
    "delta.columnMapping.mode": "none",  # nor these
    "delta.checkpointInterval": str(EVERY_COMMITS),
    "delta.autoOptimize.autoCompact": "false",  # done here, for a tenth of what Spark's job takes
    "delta.logRetentionDuration": "interval 2 hours",
    "delta.deletedFileRetentionDuration": "interval 2 hours",
}
"""What a table is created with, and given where an older version created it."""

PACKED = WriterProperties(compression="ZSTD")


class Maintenance:
    """The plan for the tables that one process writes."""

    def __init__(self, every_commits: int = EVERY_COMMITS, keep_hours: int = KEEP_HOURS):
        self._every = every_commits
        self._keep_hours = keep_hours
        self._commits = Counter[str]()

    def committed(self, path: str) -> None:
        """Note a commit to the table at a path, and do what has become due.

        A failure costs disk, not rows: it is logged, and tried again after as many commits.
        """
        self._commits[path] += 1
        if self._commits[path] % self._every:
            return
        first = self._commits[path] == self._every
        try:
            maintain(path, self._keep_hours, everything=first)
        except (DeltaError, OSError) as error:
            log.warning("%s was not maintained: %s", path, error)


def maintain(path: str, keep_hours: int, *, everything: bool = False) -> None:
    """Join small files, delete files and log entries that nobody reads any more.

    ``everything`` also finds files that no log names, such as those of a commit that was killed:
    the whole folder is listed for it. DeltaError and OSError where the store fails.
    """
    started = time.monotonic()
    table = DeltaLog(path)
    joined = table.optimize.compact(
        target_size=TARGET_BYTES, max_concurrent_tasks=1, writer_properties=PACKED
    )
    # One hour is short of Delta's default of a week, which nothing here reads back.
    deleted = table.vacuum(
        retention_hours=keep_hours, dry_run=False, enforce_retention_duration=False, full=everything
    )
    table.create_checkpoint()
    table.cleanup_metadata()
    log.info(
        "%s: %d files became %d, %d deleted, %.1f s",
        path.rpartition("/")[2],
        joined["numFilesRemoved"],
        joined["numFilesAdded"],
        len(deleted),
        time.monotonic() - started,
    )
