"""What follows from transcripts, however often the stage is killed between two deliveries."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobs.embed_transcripts import RESTORED_FROM, StoppingError, TranscriptEmbedder
from streams.runtime.in_memory import MemoryLog
from topology.graph import build_graph, check_writes

GRAPH = build_graph(2)
STAGE = GRAPH.stages["embed_transcripts"]
WITHDRAWN, NONE, SILENT = "withdrawn", "none", ""
Said = tuple[str, str]
"""An episode and its text, or how it came to have none."""


class KilledError(Exception):
    """kill -9."""


class Encoder:
    """Another direction for another text; texts that begin alike are near to each other."""

    def encode(self, texts: Any) -> np.ndarray:
        return np.array([self._direction(text) for text in texts], dtype=np.float32)

    def _direction(self, text: str) -> np.ndarray:
        vector = np.zeros(64)
        for word, weight in zip(text.split(), (1.0, 0.3), strict=False):
            digest = hashlib.sha256(word.encode()).digest()
            vector += weight * np.random.default_rng(list(digest)).normal(size=64)
        return vector / np.linalg.norm(vector)


class Output:
    """As `jobs.output.Output`; at the end of its life anything undelivered may have arrived."""

    def __init__(self, log: MemoryLog, flushes: int, dice: random.Random) -> None:
        self.wire = log.wire
        self._log = log
        self._flushes = flushes
        self._dice = dice
        self._pending: list[tuple[str, Any, str]] = []

    def send(self, topic: str, record: Any, key: str) -> None:
        check_writes(STAGE, topic)
        self._pending.append((topic, record, key))

    def flush(self) -> None:
        killed = self._flushes == 0
        self._flushes -= 1
        delivered = defaultdict(lambda: self._dice.random() < 0.5 if killed else True)
        for topic, record, key in self._pending:
            place = topic, hash(key) % 2  # partitions are delivered independently, in order
            if killed and self._dice.random() < 0.3:
                delivered[place] = False
            if delivered[place]:
                self._log.append(topic, record, key=key)
        self._pending = []
        if killed:
            raise KilledError


class Batch:
    """A micro-batch, as far as the stage looks at it."""

    def __init__(self, messages: list[Said], offset: int) -> None:
        self._rows = [self._row(offset + n, *said) for n, said in enumerate(messages)]

    def _row(self, offset: int, episode_id: str, text: str) -> tuple[Any, ...]:
        status = NONE if text == NONE else "ok"
        record = {"episode_id": episode_id, "status": status, "text": "" if text == NONE else text}
        wire = MemoryLog(GRAPH).wire
        value = None if text == WITHDRAWN else wire.encode("episode-transcripts", record)
        return "episode-transcripts", 0, offset, bytearray(episode_id.encode()), value

    def select(self, *columns: str) -> Batch:
        assert columns == ("topic", "partition", "offset", "key", "value")
        return self

    def collect(self) -> list[tuple[Any, ...]]:
        return self._rows


class World:
    """The stage on a log; each life ends after so many flushes, the last one goes on for ever."""

    def __init__(self, lives: tuple[int, ...] = (), seed: int = 0) -> None:
        self.log = MemoryLog(GRAPH)
        self.stopping = threading.Event()
        self._lives = list(lives)
        self._dice = random.Random(seed)
        self._offset = 0
        self.deaths = 0
        self.stage = self.start()

    def start(self) -> TranscriptEmbedder:
        flushes = self._lives.pop(0) if self._lives else -1
        output: Any = Output(self.log, flushes, self._dice)
        stage = TranscriptEmbedder(output, Encoder(), "m", self.stopping)
        for topic in RESTORED_FROM:
            stage.restore(self.log.records(topic))
        return stage

    def run(self, *messages: Said) -> None:
        batch: Any = Batch(list(messages), self._offset)
        self._offset += len(messages)
        while True:
            try:
                return self.stage(batch, 0)
            except KilledError:
                self.deaths += 1
                self.stage = self.start()

    def newest(self, topic: str) -> dict[str, Any]:
        """What compaction leaves."""
        kept: dict[str, Any] = {}
        for message in self.log.records(topic):
            key = (message.key or b"").decode()
            kept[key] = message.value and self.log.wire.decode(topic, message.value)
        return {key: record for key, record in kept.items() if record is not None}

    def near(self) -> dict[str, list[str]]:
        return {
            key: [near["episode_id"] for near in record["neighbours"]]
            for key, record in self.newest("episode-neighbours").items()
        }

    def hashes(self) -> dict[str, str]:
        return {key: r["text_hash"] for key, r in self.newest("episode-embeddings").items()}


def test_neighbours_outlive_a_kill_that_leaves_the_vectors() -> None:
    for flushes in range(4):
        world = World((flushes,))
        world.run(("a", "bread one"), ("b", "bread two"))
        assert world.near() == {"a": ["b"], "b": ["a"]}, flushes


def test_an_instance_that_lost_neighbours_sends_them() -> None:
    world = World()
    world.run(("a", "bread one"), ("b", "bread two"))
    world.log.append("episode-neighbours", None, key="a")
    world.stage = world.start()
    world.run(("c", "chess"))
    assert world.near()["a"] == ["b"]
    sent = len(world.log.records("episode-neighbours"))
    world.stage = world.start()
    world.run(("c", "chess"))
    assert len(world.log.records("episode-neighbours")) == sent, "a list is sent once"


@pytest.mark.parametrize("how", [WITHDRAWN, NONE, SILENT])
def test_an_episode_without_words_leaves_everything(how: str) -> None:
    world = World()
    world.run(("a", "bread one"), ("b", "bread two"), ("c", "chess"), ("d", "tides"))
    world.run(("a", how))
    assert world.hashes().keys() == world.near().keys() == {"b", "c", "d"}
    for episode_id, others in world.near().items():
        assert set(others) == {"b", "c", "d"} - {episode_id}
    world.run(("e", "bread three"))
    assert set(world.near()["e"]) == {"b", "c", "d"}
    world.run(("a", "bread one"))
    assert set(world.near()["a"]) == {"b", "c", "d", "e"}, "one that comes back is as before"


def test_only_lists_that_named_it_are_told_anew() -> None:
    world = World()
    many = [(f"{word}{n}", f"{word} {n}") for word in ("bread", "chess") for n in range(25)]
    world.run(*many)
    naming = {key for key, others in world.near().items() if "bread3" in others}
    assert naming
    assert naming < world.near().keys()
    before = len(world.log.records("episode-neighbours"))
    world.run(("bread3", WITHDRAWN))
    assert len(world.log.records("episode-neighbours")) == before + len(naming) + 1
    assert all("bread3" not in others for others in world.near().values())


def test_the_vector_of_another_model_is_withdrawn_as_well() -> None:
    world = World()
    old = {"episode_id": "a", "model": "old", "vector": b"1234", "chunks": 1, "text_hash": ""}
    world.log.append("episode-embeddings", old, key="a")
    world.stage = world.start()
    world.run(("a", NONE), ("b", NONE))
    assert world.hashes() == {}
    assert [m.key for m in world.log.records("episode-embeddings")] == [b"a", b"a"]


def test_a_stop_leaves_the_batch_to_be_repeated() -> None:
    world = World()
    world.run(("a", "bread one"), ("b", "bread two"))
    world.stopping.set()
    with pytest.raises(StoppingError):
        world.run(("a", WITHDRAWN))
    world.stopping.clear()
    world.stage = world.start()
    world.run(("a", WITHDRAWN))
    assert world.near() == {"b": []}


TEXTS = st.sampled_from(["bread one", "bread two", "chess", "tides", WITHDRAWN, NONE, SILENT])
HISTORY = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdef"), TEXTS), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(HISTORY, st.lists(st.integers(0, 6), max_size=4), st.integers(0, 10))
@example([[("a", "bread one"), ("b", "tides")], [("a", WITHDRAWN)]], [3], 0)
def test_kills_change_nothing(history: list[list[Said]], lives: list[int], seed: int) -> None:
    calm, killed = World(), World(tuple(lives), seed)
    for batch in history:
        calm.run(*batch)
        killed.run(*batch)
    said = dict(one for batch in history for one in batch)
    spoken = {key for key, text in said.items() if text not in (WITHDRAWN, NONE, SILENT)}
    assert killed.hashes() == calm.hashes()
    assert killed.hashes().keys() == spoken
    assert {k: set(v) for k, v in killed.near().items()} == {
        k: set(v) for k, v in calm.near().items()
    }
    assert killed.near().keys() == spoken
    assert set().union(*killed.near().values()) <= spoken


def grouped(world: World) -> tuple[dict[str, int], dict[str, int]]:
    """Sizes as told, and as counted."""
    counted: dict[str, int] = {}
    for record in world.newest("episode-topics").values():
        counted[record["topic_id"]] = counted.get(record["topic_id"], 0) + 1
    sizes = {key: record["size"] for key, record in world.newest("topics").items()}
    return {key: size for key, size in sizes.items() if size}, counted


@pytest.mark.parametrize("seed", range(3))
def test_topics_add_up_whenever_the_stage_is_killed(seed: int) -> None:
    first = [(f"{n}", f"{'bread' if n % 2 else 'chess'} {n}") for n in range(24)]
    more = [(f"{n}", f"{('tides', 'kites', 'moss')[n % 3]} {n}") for n in range(24, 60)]
    calm = World()
    calm.run(*first)
    flushes = 0
    while True:
        world = World(seed=seed)
        world.run(*first)
        world._lives = [flushes]
        world.stage = world.start()
        world.run(("0", WITHDRAWN), *more)
        sizes, counted = grouped(world)
        assert sizes == counted, flushes
        assert sum(sizes.values()) == 59
        assert "0" not in world.newest("episode-topics")
        if not world.deaths:
            break
        flushes += 1
    assert flushes > 5


def test_nothing_is_left_when_all_are_withdrawn() -> None:
    world = World()
    all_of_them = [(f"{n}", f"bread {n}") for n in range(24)]
    world.run(*all_of_them)
    assert world.newest("episode-topics")
    world.run(*((episode_id, WITHDRAWN) for episode_id, _ in all_of_them))
    world.stage = world.start()
    world.run(("0", NONE))
    for topic in ("episode-embeddings", "episode-neighbours", "episode-topics"):
        assert world.newest(topic) == {}
    assert grouped(world) == ({}, {})
