"""What an instance of a release that kept its tables in Faust had written is read as it was meant.

`recorded_changelogs.json` holds the first records of a partition of each of its changelogs: key and
value in Base64, null for a deleted key.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.http.retries import decode_entry
from streams.ingest.core import following
from streams.ingest.download_episodes import KnownEpisode
from streams.kafka.message import Message
from streams.recommendation.core import blend, listeners
from streams.state.faust_changelog import ChangelogFold
from streams.state.keyed_table import KeyedState
from streams.transcripts.core.analysis.duplicates import Entry
from streams.transcripts.core.versions import Version
from topology.graph import build_graph, changelog_name
from topology.model import Stage, Table
from topology.tables import (
    BLEND,
    COPIES,
    CURSORS,
    DOWNLOAD_RETRIES,
    DOWNLOADS,
    FINGERPRINTS,
    LISTENERS,
    TRANSCRIPT_VERSIONS,
)

RECORDED = json.loads(Path(__file__).with_name("recorded_changelogs.json").read_text("utf-8"))
STAGES = build_graph(4).stages.values()
DECODE: dict[str, Callable[[bytes], Any]] = {
    BLEND.name: blend.decode,
    COPIES.name: zlib.decompress,
    CURSORS.name: following.decode,
    DOWNLOADS.name: KnownEpisode.decode,
    DOWNLOAD_RETRIES.name: lambda value: decode_entry("download_retry", value),
    FINGERPRINTS.name: Entry.decode,
    LISTENERS.name: listeners.decode,
    TRANSCRIPT_VERSIONS.name: Version.decode,
}
KEPT = [
    (stage, table)
    for stage in STAGES
    for table in stage.tables
    if changelog_name(stage, table.name) in RECORDED
]


@pytest.mark.parametrize(
    ("stage", "table"), KEPT, ids=[f"{stage.name} {table.name}" for stage, table in KEPT]
)
def test_a_table_goes_on_with_what_faust_wrote(stage: Stage, table: Table) -> None:
    topic = changelog_name(stage, table.name)
    partition = int.from_bytes(base64.b64decode(RECORDED[topic][0]["key"])[:4], "big")
    fold, expected = ChangelogFold(partition), dict[bytes, bytes]()
    for offset, record in enumerate(RECORDED[topic]):
        key = base64.b64decode(record["key"])
        value = None if record["value"] is None else base64.b64decode(record["value"])
        fold.apply(Message(topic, partition, offset, key, value, 0, ()))
        expected.pop(key[4:], None)
        if value is not None:
            expected[key[4:]] = value
    state, copy = KeyedState(), KeyedState()
    state.load_rows(fold.rows)
    copy.load_snapshot(list(state.snapshot()))
    assert dict(copy.items()) == expected
    for value in expected.values():
        assert DECODE[table.name](value) is not None


def test_most_tables_were_recorded() -> None:
    assert {table.name for _, table in KEPT} == DECODE.keys()
