"""How far Spark's stages are; memory of a process tree; what is late, or was noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pydantic import SecretStr
from pymongo import MongoClient

from streams.cli.showcase import late_line, noted_line
from streams.cli.status import (
    Noted,
    Status,
    late_events,
    noted_episodes,
    noted_transcripts,
    spark_progress,
)
from streams.monitoring.instruments import memory_bytes
from topology.graph import build_graph
from topology.settings import Settings

STAGES = build_graph(2).stages


def test_the_slowest_query_of_a_stage_counts_and_others_do_not() -> None:
    queries = {
        "write_delta-facts": {"episode-transcripts": {0: 10, 1: 4}},
        "write_delta-more": {"episode-transcripts": {0: 6, 1: 9}},
        "embed_transcripts": {"episode-transcripts": {0: 1, 1: 1}},
    }
    done = spark_progress(STAGES["write_delta"], ["embed_transcripts"], queries)
    assert done == {"episode-transcripts": {0: 6, 1: 4}}
    done = spark_progress(STAGES["embed_transcripts"], ["write_delta"], queries)
    assert done == {"episode-transcripts": {0: 1, 1: 1}}


def test_memory_includes_children() -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'x = bytearray(60_000_000); print(1, flush=True); import time; time.sleep(60)'])\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        try:
            assert memory_bytes(parent.pid) > 60_000_000
        finally:
            os.killpg(parent.pid, 9)
    assert memory_bytes(parent.pid) == 0


@pytest.mark.mongo
def test_late_events_are_those_of_the_stage_that_counts(mongo_uri: str) -> None:
    settings = Settings(mongodb_uri=SecretStr(mongo_uri), mongodb_database="status_late")
    assert late_events(settings) == 0
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client["status_late"]["table_progress"].insert_many(
            {"_id": f"{stage}|{partition}", "stage": stage, "late": 1200}
            for stage in ("track_engagement", "track_listening")
            for partition in (0, 1)
        )
    assert late_events(settings) == 2400
    said = late_line(Status(late_events=late_events(settings)))
    assert said is not None
    assert said.startswith("2,400 late events")


def test_nothing_is_said_of_late_events_where_there_are_none() -> None:
    assert late_line(Status()) is None


@pytest.mark.mongo
def test_episodes_with_notes_are_counted(mongo_uri: str) -> None:
    settings = Settings(mongodb_uri=SecretStr(mongo_uri), mongodb_database="status_noted")
    assert noted_episodes(settings) == 0
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client["status_noted"]["episodes"].insert_many(
            [{"_id": "1", "note_count": 1}, {"_id": "2", "note_count": 0}, {"_id": "3"}]
        )
    assert noted_episodes(settings) == 1


def test_transcripts_with_notes_are_counted(tmp_path: Path) -> None:
    settings = Settings(delta_root=str(tmp_path))
    assert noted_transcripts(settings) == 0
    table = str(tmp_path / "transcripts")
    write_deltalake(table, pa.table({"episode_id": ["1"]}))
    assert noted_transcripts(settings) == 0
    notes = pa.array([["guessed", "mended"], [], None, ["guessed"]], pa.list_(pa.string()))
    more = pa.table({"episode_id": ["2", "3", "4", "5"], "notes": notes})
    write_deltalake(table, more, mode="append", schema_mode="merge")
    assert noted_transcripts(settings) == 2


def test_notes_are_told_where_there_are_any() -> None:
    assert noted_line(Status()) is None
    said = noted_line(Status(noted=Noted(episodes=1_200, transcripts=3)))
    assert said is not None
    assert said.startswith("1,200 episodes and 3 transcripts have notes")
    assert noted_line(Status(noted=Noted(0, None))) is None
