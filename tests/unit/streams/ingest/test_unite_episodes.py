"""From references that carry records to one current episode, on the in-memory log."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ingest.core.episodes import episode_from_podcastindex, episode_from_rss
from streams.ingest.sources.base import SourceError
from streams.runtime.in_memory import MemoryContext, MemoryRuntime, MemoryStateLog
from topology.graph import build_graph
from topology.settings import Settings

FEED_URL = "https://pods.example/feed.xml"
AUDIO = "https://cdn.example/1.mp3"
AT = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ("download_episodes", "unite_episodes")


def of_feed(title: str = "One", audio: str = AUDIO, guid: str = "g-1") -> dict[str, Any]:
    entry = {"guid": guid, "title": title, "enclosures": [{"url": audio}]}
    return episode_from_rss(FEED_URL, {"title": "Show"}, entry)


def of_index(title: str = "One", number: int = 7, guid: str = "g-1") -> dict[str, Any]:
    item = {"id": number, "feedId": 2, "title": title, "guid": guid, "duration": 60}
    return episode_from_podcastindex({**item, "enclosureUrl": f"{AUDIO}?from=index"})


OTHERS = [of_index(f"Other {number}", number, f"g-{number}") for number in range(20, 24)]


class StandIn:
    """A source of an episode that changes as told, and of others; counts what is asked of it."""

    name = "podcastindex"

    def __init__(self) -> None:
        self.record: dict[str, Any] | None = of_index()
        self.asked = 0

    async def fetch(self, refs: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked += 1
        known = {other["episode_id"]: other for other in OTHERS}
        if self.record:
            known[self.record["episode_id"]] = self.record
        unknown = SourceError("the index does not know the episode")
        return {ref["episode_id"]: known.get(ref["episode_id"], unknown) for ref in refs}

    async def close(self) -> None:
        pass


class Flow:
    """The two stages; references go in, and episodes by id come out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.index = StandIn()
        for module in ("streams.ingest.download_episodes",):
            monkeypatch.setattr(
                f"{module}.configured_sources", lambda *_: {"podcastindex": self.index}
            )
        self.runtime = MemoryRuntime(build_graph(2), Settings())
        self.log = self.runtime.log
        for stage in STAGES:
            self.runtime.start(stage)

    def found(self, episode: dict[str, Any], *, whole: bool = True, **values: Any) -> None:
        """A source lists an episode, with its record where it has the ``whole`` of it."""
        framed = self.log.wire.encode("episode-metadata", episode) if whole else None
        ref = {
            "episode_id": episode["episode_id"],
            "source": episode["source"],
            "feed_id": "f",
            "source_id": "s",
            "found_by": "feed" if whole else "recent",
            "found_at": AT,
            "record": framed,
            **values,
        }
        self.log.append("episode-ids", ref, key=episode["episode_id"])

    def withdrawn(self, record: dict[str, Any]) -> None:
        self.found(record, whole=False, withdrawn=True)

    def sent(self) -> list[tuple[str, dict[str, Any] | None]]:
        """What has come out so far, in the order of the log of its one or two partitions."""
        self.runtime.run()
        records = self.log.records("episode-metadata")
        decode = self.log.wire.decode
        return [
            ((m.key or b"").decode(), decode(m.topic, m.value) if m.value else None)
            for m in records
        ]

    def current(self) -> dict[str, dict[str, Any]]:
        return {key: record for key, record in dict(self.sent()).items() if record}

    def reasons(self, topic: str) -> list[str]:
        header = "__connect.errors.exception.message"
        return [(m.header(header) or b"").decode() for m in self.log.records(f"{topic}.dlq")]


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Flow:
    return Flow(monkeypatch)


def test_a_record_that_comes_along_is_not_fetched_and_repeats_say_nothing(flow: Flow) -> None:
    episode = of_feed()
    for _ in range(3):
        flow.found(episode)
    assert flow.sent() == [(episode["episode_id"], episode)]
    flow.found(episode)
    assert len(flow.sent()) == 1
    assert flow.index.asked == 0


def test_an_edit_is_published(flow: Flow) -> None:
    flow.found(of_index(), whole=False)
    assert flow.current() == {"pi:7": of_index()}
    flow.index.record = of_index("Edited")
    flow.found(of_index(), whole=False)
    assert flow.current() == {"pi:7": of_index()}
    assert flow.index.asked == 1
    flow.found(of_index(), whole=False, found_by="edit")
    assert flow.current() == {"pi:7": of_index("Edited")}
    assert (flow.index.asked, len(flow.sent())) == (2, 2)


def test_two_sources_are_one_episode_and_the_feed_counts(flow: Flow) -> None:
    flow.found(of_index("One by the index"), whole=False)
    flow.runtime.run()
    flow.found(of_feed("One"))
    assert flow.current() == {"pi:7": {**of_feed("One"), "episode_id": "pi:7", "duration_s": 60}}
    flow.index.record = of_index("edited at the index only")
    flow.found(of_index(), whole=False, found_by="edit")
    assert len(flow.sent()) == 2
    flow.withdrawn(of_feed())
    assert flow.current() == {"pi:7": of_index("edited at the index only")}
    flow.withdrawn(of_index())
    assert flow.current() == {}
    assert flow.sent()[-1] == ("pi:7", None)
    assert {key for key, _ in flow.sent()} == {"pi:7"}


def test_other_episodes_stay_apart(flow: Flow) -> None:
    flow.found(of_index())
    flow.found(of_feed(guid="g-2"))
    flow.found(of_feed(guid="g-3", audio="https://cdn.example/3.mp3"))
    assert len(flow.current()) == 3


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_withdrawn_can_come_back(flow: Flow, whole: bool) -> None:
    flow.found(of_index(), whole=whole)
    flow.withdrawn(of_index())
    assert flow.current() == {}
    flow.found(of_index(), whole=whole)
    assert flow.current() == {"pi:7": of_index()}
    flow.withdrawn(of_index())
    flow.withdrawn(of_index())
    flow.found(of_index(), whole=whole)
    assert flow.current() == {"pi:7": of_index()}


def test_an_episode_stays_the_same_when_its_audio_moves(flow: Flow) -> None:
    flow.found(of_index())
    flow.found(of_feed())
    flow.found(of_feed("moved", audio="https://new.example/1.mp3"))
    assert [record["title"] for record in flow.current().values()] == ["moved"]
    flow.withdrawn(of_feed())
    flow.withdrawn(of_index())
    assert flow.current() == {}


def test_what_was_never_there_cannot_be_withdrawn(flow: Flow) -> None:
    flow.withdrawn(of_index())
    flow.found(of_index())
    assert flow.sent() == [("pi:7", of_index())]


def test_what_cannot_be_used_is_put_aside(flow: Flow) -> None:
    flow.found(of_feed(), record=b"garbage")
    flow.found(of_feed(), record=flow.log.wire.encode("episode-metadata", of_index()))
    flow.found(of_feed(), whole=False)
    flow.index.record = None
    flow.found(of_index(), whole=False)
    bad = {"identity": "x", "episode_id": "x", "source": "rss", "record": b"\0garbage"}
    flow.log.append("episode-candidates", bad, key="x")
    assert flow.sent() == []
    assert sorted(flow.reasons("episode-ids")) == [
        "not a Confluent frame: expected 0x00 and a 4-byte schema id",
        "source 'rss' is not configured",
        "the index does not know the episode",
        "the record is that of pi:7",
    ]
    assert len(flow.reasons("episode-candidates")) == 1
    flow.index.record = of_index()
    flow.found(of_index(), whole=False)
    assert flow.current() == {"pi:7": of_index()}


def story(flow: Flow) -> None:
    """Every kind of reference, for some episodes of two sources."""
    other = of_feed(guid="g-2", audio="https://cdn.example/2.mp3")
    flow.found(of_index(), whole=False)
    flow.found(of_feed())
    flow.found(other)
    flow.withdrawn(other)
    flow.found(of_feed("edited"))
    flow.withdrawn(of_index())
    flow.found(of_feed(guid="g-3", audio="https://cdn.example/3.mp3"))
    flow.found(of_index(), whole=False)
    for known in OTHERS:
        flow.found(known, whole=False)


def test_crashes_in_the_middle_change_nothing(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    story(flow)
    expected = flow.current()
    assert len(expected) == 6
    for stage in STAGES:
        for redeliver in range(1, 8):
            flow.runtime.crash(stage, redeliver=redeliver)
            assert flow.current() == expected
    for stage, lost in product(STAGES, (True, False)):
        records = 0
        while (crashed := crashed_at(monkeypatch, stage, records, lost)) is not None:
            assert crashed == expected
            records += 1
        assert records >= 6


titles = st.sampled_from(["one", "two", None])
references = st.lists(st.tuples(st.sampled_from([of_feed, of_index]), titles), max_size=10)
crashes = st.lists(st.tuples(st.sampled_from(STAGES), st.integers(1, 6)), max_size=3)


@settings(max_examples=40, deadline=None)
@given(references, crashes, st.integers(1, 4))
def test_whatever_comes_and_crashes_the_last_word_of_each_source_counts(
    said: list[Any], restarts: list[Any], batch: int
) -> None:
    last = dict(said)
    with pytest.MonkeyPatch.context() as patch:
        flow = Flow(patch)
        for of, title in said:
            if title is None:
                flow.withdrawn(of())
            else:
                flow.found(of(title))
        for stage, redeliver in restarts:
            flow.runtime.run(max_batch=batch)
            flow.runtime.crash(stage, redeliver=redeliver)
        current = list(flow.current().values())
    best = last.get(of_feed) or last.get(of_index)
    assert [record["title"] for record in current] == ([best] if best else [])
    ids = {of().get("episode_id") for of, title in said if title is not None}
    assert {record["episode_id"] for record in current} <= ids


class Failing:
    """Sends only so many records, and fails at the next one, which is ``lost`` or not."""

    def __init__(self, context: MemoryContext, limit: int, lost: bool) -> None:
        self._send, self._left, self._lost = context.send, limit, lost
        context.send = self.send  # type: ignore[method-assign]

    async def send(self, *args: Any, **named: Any) -> None:
        self._left -= 1
        if self._left >= 0 or not self._lost:
            await self._send(*args, **named)
        if self._left < 0:
            raise ConnectionError


class Dying:
    """Lets only so many records into the logs of state, and fails at the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        append, left = MemoryStateLog.append, iter(range(limit))

        def dying(log: MemoryStateLog, *record: Any) -> Any:
            if next(left, None) is None:
                raise ConnectionError
            return append(log, *record)

        monkeypatch.setattr(MemoryStateLog, "append", dying)


def test_a_kill_at_any_record_of_state_changes_nothing(flow: Flow) -> None:
    story(flow)
    expected = flow.current()
    records = 0
    while (left := left_by_a_kill(records)) is not None:
        assert left == expected
        records += 1
    assert records >= 12


def left_by_a_kill(record: int) -> dict[str, dict[str, Any]] | None:
    """What there is after all were killed at a record of state; None if there are fewer."""
    with pytest.MonkeyPatch.context() as patch:
        flow = Flow(patch)
        story(flow)
        with pytest.MonkeyPatch.context() as during:
            Dying(during, record)
            try:
                flow.runtime.run(max_batch=3)
            except ConnectionError:
                pass
            else:
                return None
        for stage in STAGES:
            flow.runtime.crash(stage)
        return flow.current()


def killed_once_sent(patch: pytest.MonkeyPatch) -> Flow:
    """An episode's candidate was sent, and nothing else was kept but its identity."""
    flow = Flow(patch)
    flow.found(of_index(), whole=False)
    with pytest.MonkeyPatch.context() as during:
        Dying(during, 1)
        with pytest.raises(ConnectionError):
            flow.runtime.run()
    return flow


def test_what_a_kill_left_behind_is_withdrawn_though_the_index_has_forgotten_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = killed_once_sent(monkeypatch)
    assert len(flow.log.records("episode-candidates")) == 1
    flow.index.record = None
    flow.withdrawn(of_index())
    for stage in STAGES:
        flow.runtime.crash(stage)
    assert flow.current() == {}
    assert flow.log.decoded("episode-candidates")[-1]["record"] is None


def test_an_identity_outlives_a_kill_after_which_the_index_says_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = killed_once_sent(monkeypatch)
    flow.index.record = of_index("Edited", guid="another")
    for stage in STAGES:
        flow.runtime.crash(stage)
    assert flow.current() == {"pi:7": of_index("Edited", guid="another")}
    assert len({c["identity"] for c in flow.log.decoded("episode-candidates")}) == 1


def crashed_at(
    monkeypatch: pytest.MonkeyPatch, stage: str, record: int, lost: bool
) -> dict[str, dict[str, Any]] | None:
    """What there is after a crash of a stage at a record it sends; None if it sends fewer."""
    flow = Flow(monkeypatch)
    story(flow)
    Failing(flow.runtime.start(stage), record, lost)
    try:
        flow.runtime.run(max_batch=3)
    except ConnectionError:
        flow.runtime.crash(stage)
        return flow.current()
    return None
