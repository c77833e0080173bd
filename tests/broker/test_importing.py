"""Importing, producing and simulating through the command line, against a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from streams.cli.main import build_app
from streams.events.batch_progress import event_source, to_chunk
from streams.events.core.batching import PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.registry import open_registry, topic_registry
from streams.kafka.wire import Wire
from streams.operations.importing import RECBOLE_WHEEL
from topology.apply import apply_topology
from topology.graph import build_graph, get_graph
from topology.settings import get_settings

pytestmark = pytest.mark.broker

EVENT = {
    "user_id": "u1",
    "episode_id": "x:1",
    "kind": "play",
    "occurred_at": "2026-01-31T12:00:00Z",
}


@pytest.fixture(autouse=True)
def instance(broker: str, podstream_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    get_settings.cache_clear()
    get_graph.cache_clear()
    apply_topology(get_settings(), open_registry(get_settings()), mongo=False)


def podstream(*arguments: str, lines: str | None = None) -> Result:
    return CliRunner().invoke(build_app(), [*arguments], input=lines)


def records(topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Keys and records of everything in a topic, which the tests of a session share."""
    registry = topic_registry(get_settings().kafka_bootstrap_servers)
    wire = Wire(get_graph(), registry)
    reader = LogTail(get_settings().kafka_bootstrap_servers, [topic])
    messages: list[Any] = []
    reader.read_to_end(messages.extend)
    reader.close()
    found = [(m.key.decode(), wire.decode(topic, m.value)) for m in messages]
    return found


def test_events_are_imported_and_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    rows = [{**EVENT, "user_id": f"csv{n}", "heard_ms": "1000"} for n in range(50)]
    rows[7]["kind"] = "nothing"
    pl.DataFrame(rows).write_csv(path)
    result = podstream("import", "events", str(path))
    assert result.exit_code == 0, result.output
    assert "line 9: kind: 'nothing' is none of" in result.output
    assert "49 records sent to user-events" in result.output
    sent = {key: record for key, record in records("user-events") if key.startswith("csv")}
    assert len(sent) == 49
    assert all(record["user_id"] == key for key, record in sent.items())


def sent_of(prefix: str) -> list[tuple[str, int]]:
    """Listener and time heard of every event in the log, as often as it is there."""
    sent = [record for key, record in records("user-events") if key.startswith(prefix)]
    return [(record["user_id"], record["heard_ms"]) for record in sent]


def test_a_file_that_is_imported_again_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    rows = [{**EVENT, "user_id": f"again{n}", "heard_ms": n} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert podstream("import", "events", str(path)).exit_code == 0
    result = podstream("import", "events", str(path))
    assert result.exit_code == 0, result.output
    assert "imported already (30 events" in result.output
    assert len(sent_of("again")) == 30
    # What has grown is another file.
    path.write_text(path.read_text() + json.dumps({**EVENT, "user_id": "again30"}) + "\n")
    assert "31 records sent" in podstream("import", "events", str(path)).output


def test_an_import_that_is_killed_goes_on_and_every_event_counts_once(tmp_path: Path) -> None:
    """Far more events than the window of repeats, killed again and again, then once more."""
    number, window = 300_000, 100
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for n in range(number):
            row = {**EVENT, "user_id": f"large{n % 5_000}", "heard_ms": n, "event_id": f"i{n}"}
            file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "streams.cli.main", "import", "events", str(path)]
    kills = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said, _ = process.communicate(timeout=4 + 1.5 * kills)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert process.returncode == 0, said
    assert kills, "it was killed at least once"
    assert "imported already" in podstream("import", "events", str(path)).output

    sent = Counter(sent_of("large"))
    assert len(sent) == number, "nothing is missing"
    settings = get_settings()
    decoder = EventDecoder("user-events", open_registry(settings))
    places = event_source(settings, build_graph(settings.event_partitions))
    counted: Counter[int] = Counter()
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for partition, end in logs.ends("user-events").items():
            batcher = PartitionBatcher(partition, 0, window, decoder, places)
            for some in logs.span("user-events", partition, 0, end):
                events = batcher.batch(to_chunk(some)).events
                mine = events.filter(events["user_id"].str.starts_with("large"))
                counted.update(mine["heard_ms"].to_list())
    assert len(counted) == counted.total() == number


def test_a_file_without_a_good_row_ends_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("nonsense\n")
    result = podstream("import", "events", str(path))
    assert result.exit_code == 1
    assert "line 1: no JSON" in result.output
    assert "Nothing was imported" in result.output
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    result = podstream("import", "events", str(tmp_path / "other.csv"))
    assert result.exit_code == 1
    assert "has no column user_id" in result.output


def test_episodes_are_imported_with_their_transcripts(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    episodes = [
        {"episode_id": "imp:1", "title": "One", "categories": ["A"], "transcript_text": "hello"},
        {"episode_id": "imp:2"},
        {"episode_id": "imp:3", "title": "Three"},
    ]
    path.write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
    result = podstream("import", "episodes", str(path))
    assert result.exit_code == 0, result.output
    assert "line 2: title missing" in result.output
    assert {key for key, _ in records("episode-metadata")} >= {"imp:1", "imp:3"}
    transcripts = dict(records("episode-transcripts"))
    assert transcripts["imp:1"]["text"] == "hello"
    assert "imp:3" not in transcripts


def test_feeds_of_an_opml_file_are_followed_once(tmp_path: Path) -> None:
    path = tmp_path / "feeds.opml"
    outlines = [f'<outline text="F" xmlUrl="https://pods.example/{n}"/>' for n in range(3)]
    outlines.append('<outline text="G" xmlUrl="gopher://pods.example/"/>')

    def opml(count: int) -> Result:
        body = "".join(outlines[-count:])
        path.write_text(f"<opml><body><outline text='all'>{body}</outline></body></opml>")
        return podstream("import", "opml", str(path))

    first, second = opml(3), opml(4)
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert "2 new feeds are followed from now on, 0 were already" in first.output
    assert "feed 3: 'gopher://pods.example/' is no address of a feed" in first.output
    assert "1 new feeds are followed from now on, 2 were already" in second.output
    produced = podstream("produce", "feeds", lines='{"url": "https://pods.example/9"}')
    assert produced.exit_code == 0, produced.output
    followed = [(k, r["added_by"]) for k, r in records("feeds") if "pods.example" in k]
    by_opml = [(f"https://pods.example/{n}", "opml") for n in range(3)]
    assert sorted(followed) == [*by_opml, ("https://pods.example/9", "")]

    path.write_text("<opml><body>")
    broken = podstream("import", "opml", str(path))
    assert broken.exit_code == 1
    assert broken.output.strip().startswith("feeds.opml: no XML: no element found")


def test_produced_lines_are_checked_one_by_one() -> None:
    good = {**EVENT, "event_id": "p1", "user_id": "produced"}
    lines = [json.dumps(good), "{", json.dumps({**good, "rank": "first"}), ""]
    result = podstream("produce", "user-events", lines="\n".join(lines))
    assert result.exit_code == 1
    assert "line 2: no JSON" in result.output
    assert "line 3: rank: 'first' is no int" in result.output
    assert [key for key, r in records("user-events") if r["event_id"] == "p1"] == ["produced"]


def test_metrics_get_the_key_that_their_topic_declares() -> None:
    metric = {"model": "m", "generation": "g", "metric": "auc", "value": 0.5, "at": 0}
    result = podstream("produce", "model-metrics", lines=json.dumps(metric))
    assert result.exit_code == 0, result.output
    assert "m|g|auc" in dict(records("model-metrics"))


@pytest.mark.parametrize("topic", ["user-event-batches", "_schemas", "nowhere"])
def test_only_topics_of_avro_records_can_be_produced_to(topic: str) -> None:
    result = podstream("produce", topic, lines="{}")
    assert result.exit_code == 2
    assert "is no topic of" in result.output


def test_a_wheel_that_is_not_the_published_one_is_refused() -> None:
    folder = get_settings().podstream_home / "downloads"
    folder.mkdir()
    (folder / RECBOLE_WHEEL).write_bytes(b"something else")
    result = podstream("import", "movielens", "ml-100k")
    assert result.exit_code == 1
    assert "not the file that was published" in result.output


def test_simulated_listeners_send_events_and_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    rows = [
        {"episode_id": f"sim:{n}", "title": f"T{n}", "categories": f"C{n % 4}", "duration_s": 600}
        for n in range(40)
    ]
    pl.DataFrame(rows).write_csv(path)
    assert podstream("import", "episodes", str(path)).exit_code == 0
    options = ["--listeners", "20", "--rate", "200", "--seed", "3", "--seconds", "3"]
    result = podstream("simulate", *options)
    assert result.exit_code == 0, result.output
    assert "nothing can be said" in result.output
    sent = [record for key, record in records("user-events") if key.startswith("listener-")]
    assert 200 < len(sent) < 800
    assert len({record["event_id"] for record in sent}) == len(sent)
    assert {"impression", "play", "progress"} <= {record["kind"] for record in sent}
