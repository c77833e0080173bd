"""Hosts that ask for more time than any date can hold, in memory over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from streams.http.circuit import LONGEST_ASKED_S
from streams.http.retries import decode_entry
from streams.runtime.in_memory import MemoryRuntime
from tests.clocks import StandingClock
from tests.served import answering, served
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import DOWNLOAD_RETRIES

DAYS_S = 1.2 * 86_400 + LONGEST_ASKED_S

pytestmark = pytest.mark.parametrize(
    "retry_after", ["Fri, 31 Dec 9999 23:59:59 GMT", "999999999999", "3600000"]
)


@pytest.fixture
def address(retry_after: str) -> Iterator[str]:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": retry_after})

    with served(answering(busy)) as made:
        yield made


def test_a_transcript_waits(address: str) -> None:
    clock = StandingClock()
    settings = Settings(fetch_allow_hosts=(address,))
    flow = MemoryRuntime(build_graph(2), settings, clock=clock)
    flow.start("fetch_transcripts")
    link = {"url": f"http://{address}/a.vtt", "type": "text/vtt"}
    episode: dict[str, Any] = {
        "episode_id": "pi:1",
        "title": "t",
        "show_id": "pi:2",
        "show_title": "s",
        "source": "podcastindex",
        "transcripts": [link],
    }
    flow.log.append("episode-metadata", episode, key="pi:1")
    flow.run(timers=False)
    (record,) = flow.log.decoded("episode-transcripts")
    assert record["status"] == "failed"
    assert clock.now() < record["retry_at"].timestamp() < clock.now() + DAYS_S


def test_an_episode_waits(address: str) -> None:
    settings = Settings(
        podcastindex_url=f"http://{address}/api/1.0",
        podcastindex_key=SecretStr("k"),
        podcastindex_secret=SecretStr("s"),
    )
    clock = StandingClock()
    flow = MemoryRuntime(build_graph(2), settings, clock=clock)
    flow.start("download_episodes")
    ref = {
        "episode_id": "pi:1",
        "source": "podcastindex",
        "feed_id": "9",
        "source_id": "1",
        "found_by": "recent",
        "found_at": datetime.fromtimestamp(clock.now(), UTC),
    }
    flow.log.append("episode-ids", ref, key="pi:1")
    flow.run(timers=False)
    (value,) = flow.rows("download_episodes", DOWNLOAD_RETRIES).values()
    due_at = decode_entry("download_retry", value)["due_at"]
    assert clock.now() < due_at.timestamp() < clock.now() + DAYS_S
