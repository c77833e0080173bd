"""The ingestion stages on the in-memory log, against the demo index over real HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from streams.demo.demo_catalogue import build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.runtime.in_memory import MemoryRuntime
from tests.clocks import StandingClock
from tests.served import served
from topology.graph import build_graph
from topology.settings import Settings

STAGES = (
    "announce_feeds",
    "discover_episodes",
    "download_episodes",
    "unite_episodes",
    "fetch_transcripts",
)
AT_START = sum(e.age_s is not None for e in build_catalogue().episodes.values())


CLOCK = StandingClock()
"""Of the index and of the stages: it never moves."""


@pytest.fixture(scope="module")
def demo_host() -> Iterator[str]:
    """host:port of a demo index in a thread of its own: the runtime brings its own event loop."""
    index = DemoIndex(build_catalogue(), CLOCK.now(), trickle_s=3600, clock=CLOCK.now)
    with served(index.app()) as host:
        yield host


def runtime(host: str, *stages: str, **overrides: object) -> MemoryRuntime:
    values = {
        "podcastindex_url": f"http://{host}/api/1.0",
        "podcastindex_key": DEMO_KEY,
        "podcastindex_secret": DEMO_SECRET,
        "fetch_allow_hosts": host,
        **overrides,
    }
    settings = Settings.model_validate(values)
    made = MemoryRuntime(build_graph(2), settings, clock=CLOCK)
    for stage in stages:
        made.start(stage)
    return made


def test_every_episode_of_the_index_flows_through_with_its_transcript(demo_host: str) -> None:
    flow = runtime(demo_host, *STAGES)
    flow.run()
    refs, episodes = flow.log.decoded("episode-ids"), flow.log.decoded("episode-metadata")
    transcripts = flow.log.decoded("episode-transcripts")
    ids = Counter(episode["episode_id"] for episode in episodes)
    assert len(ids) == AT_START
    assert set(ids.values()) == {1}
    assert Counter(ref["episode_id"] for ref in refs) == ids
    assert Counter(t["episode_id"] for t in transcripts) == ids
    assert {t["status"] for t in transcripts} == {"ok"}
    assert {t["format"] for t in transcripts} == {"vtt", "srt", "json", "html", "text"}
    assert min(len(t["text"].split()) for t in transcripts) >= 300
    assert len({c for e in episodes for c in e["categories"]}) == 10
    for message in flow.log.records("episode-transcripts"):
        assert (
            message.key == flow.log.wire.decode(message.topic, message.value)["episode_id"].encode()
        )
    assert not flow.log.records("episode-ids.dlq") + flow.log.records("episode-metadata.dlq")

    flow.run()
    assert len(flow.log.records("episode-ids")) == AT_START


def test_a_redelivery_after_a_crash_changes_no_record(demo_host: str) -> None:
    flow = runtime(demo_host, *STAGES)
    flow.run()
    newest = {e["episode_id"]: e for e in flow.log.decoded("episode-metadata")}
    for stage in STAGES:
        flow.crash(stage, redeliver=5)
    flow.run()
    assert {e["episode_id"]: e for e in flow.log.decoded("episode-metadata")} == newest
    statuses = {t["episode_id"]: t["status"] for t in flow.log.decoded("episode-transcripts")}
    assert set(statuses.values()) == {"ok"}
    assert set(statuses) == set(newest)


def test_refs_that_cannot_be_fetched_go_to_the_dead_letter_topic(demo_host: str) -> None:
    flow = runtime(demo_host, "download_episodes")
    ref = {
        "episode_id": "pi:5",
        "source": "podcastindex",
        "feed_id": "5",
        "source_id": "5",
        "found_by": "recent",
        "found_at": datetime.now(UTC),
    }
    flow.log.append("episode-ids", ref, key="pi:5", partition=0)
    flow.log.append("episode-ids", ref | {"source": "itunes"}, key="pi:5", partition=0)
    flow.log.append("episode-ids", b"garbage", key="pi:6", partition=0)
    flow.run()
    dead = flow.log.records("episode-ids.dlq")
    why = [(m.header("__connect.errors.exception.message") or b"").decode() for m in dead]
    assert any("does not know" in reason for reason in why)
    assert any("'itunes' is not configured" in reason for reason in why)
    assert b"garbage" in [m.value for m in dead]
    assert len(dead) == 3
    assert not flow.log.records("episode-candidates")


def episode(**values: object) -> dict[str, Any]:
    return {"episode_id": "pi:1", "title": "t", "show_id": "pi:2", "show_title": "s"} | {
        "source": "podcastindex",
        "transcripts": [],
        **values,
    }


def test_why_there_is_no_transcript(demo_host: str) -> None:
    flow = runtime(demo_host, "fetch_transcripts", fetch_timeout_s=2.0)

    def links(*urls: str, mime: str = "text/vtt") -> list[dict[str, Any]]:
        return [{"url": url, "type": mime} for url in urls]

    cases = {
        "pi:1": [],
        "pi:2": links("http://169.254.169.254/latest/meta-data"),
        "pi:3": links(f"http://{demo_host}/transcripts/1.vtt"),
        "pi:4": links(f"http://{demo_host}/a.pdf", mime="application/pdf"),
        "pi:5": links(f"http://{demo_host}/audio/1.wav", mime="text/plain"),
    }
    for episode_id, listed in cases.items():
        flow.log.append("episode-metadata", episode(episode_id=episode_id, transcripts=listed))
    flow.log.append("episode-metadata", episode(episode_id="x:1", source="import"))
    flow.log.append("episode-metadata", None, key="pi:9")
    flow.log.append("episode-metadata", b"garbage", key="pi:8")
    flow.run()
    told = flow.log.records("episode-transcripts")
    assert [m.key for m in told if m.value is None] == [b"pi:9"]
    records = [flow.log.wire.decode(m.topic, m.value) for m in told if m.value is not None]
    assert {t["episode_id"]: (t["status"], t["reason"]) for t in records} == {
        "pi:1": ("none", "none is listed"),
        "pi:2": ("refused", "169.254.169.254 is not a public address"),
        "pi:3": ("failed", "HTTP 404"),
        "pi:4": ("none", "none of 1 links is in a format we read"),
        "pi:5": ("refused", "the server sent 'audio/wav' where a transcript was expected"),
    }
    assert [m.value for m in flow.log.records("episode-metadata.dlq")] == [b"garbage"]


def test_the_next_best_transcript_is_taken_where_the_best_one_fails(demo_host: str) -> None:
    flow = runtime(demo_host, *STAGES)
    flow.run()
    good = next(t for t in flow.log.decoded("episode-transcripts") if t["format"] == "text")
    listed = [
        {"url": good["url"], "type": "text/plain"},
        {"url": f"http://{demo_host}/transcripts/1.vtt", "type": "text/vtt"},
    ]
    flow = runtime(demo_host, "fetch_transcripts")
    flow.log.append("episode-metadata", episode(transcripts=listed))
    flow.run()
    (transcript,) = flow.log.decoded("episode-transcripts")
    assert (transcript["status"], transcript["format"]) == ("ok", "text")


def test_without_a_key_or_an_index_nothing_is_found_and_nothing_breaks(demo_host: str) -> None:
    for overrides in ({"podcastindex_key": ""}, {"podcastindex_secret": "wrong"}):
        values = {
            "podcastindex_url": f"http://{demo_host}/api/1.0",
            "podcastindex_key": DEMO_KEY,
            "podcastindex_secret": DEMO_SECRET,
            **overrides,
        }
        settings = Settings.model_validate(values)
        flow = MemoryRuntime(build_graph(2), settings)
        flow.start("discover_episodes")
        flow.run()
        assert not flow.log.records("episode-ids")
