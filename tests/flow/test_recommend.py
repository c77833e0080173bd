"""`recommend` and `learn_blend` in memory: from reference data and events to lists and weights."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas import columnar
from streams.kafka.message import Message
from streams.recommendation.core.model_records import slot_key
from streams.recommendation.core.reasons import ALIKE
from streams.recommendation.explaining import explanation, find_listener
from streams.recommendation.recommend import PART_DECIMALS
from streams.recommendation.references import References
from streams.runtime.in_memory import MemoryContext, MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import BLEND, LISTENERS

START = datetime(2026, 1, 10, tzinfo=UTC)
PARTITION = 1
CATEGORIES = ("History", "Science")


def vector(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


class World:
    """Ten episodes, even ones History, odd ones Science, and who did what with them."""

    def __init__(self, runtime: MemoryRuntime) -> None:
        self.runtime = runtime
        self.log = runtime.log
        self.clock = runtime.clock
        self.clock.set(START.timestamp())
        self.offset = 0

    def episode(self, number: int, **more: object) -> None:
        record = {
            "episode_id": f"e:{number}",
            "title": f"Title {number}",
            "show_id": "s:1",
            "show_title": "The Show",
            "categories": [CATEGORIES[number % 2]],
            "published_at": START - timedelta(days=number),
            "source": "import",
            **more,
        }
        self.log.append("episode-metadata", record, key=f"e:{number}")

    def embedding(self, number: int) -> None:
        axis = np.eye(2)[number % 2] + 0.01 * number
        axis /= np.linalg.norm(axis)
        record = {
            "episode_id": f"e:{number}",
            "model": "m",
            "vector": vector(*axis),
            "chunks": 1,
            "text_hash": "",
        }
        self.log.append("episode-embeddings", record, key=f"e:{number}")

    def generation(
        self, name: str, numbers: Collection[int], announce: bool = True, slot: int = 0
    ) -> None:
        for number in numbers:
            record = {
                "episode_id": f"e:{number}",
                "generation": name,
                "vector": vector(*(np.eye(2)[number % 2] + 0.02 * number)),
            }
            self.log.append("item-factors", record, key=slot_key(f"e:{number}", slot))
        if announce:
            self.announce(name, len(numbers), slot)

    def choose(self, generation: str) -> None:
        self.clock.move(1)
        choice = {"model": "als", "generation": generation, "before": "", "promoted_at": START}
        self.log.append("served-generation", choice, key="als")

    def announce(self, name: str, items: int, slot: int = 0) -> None:
        record = {
            "generation": name,
            "model": "als",
            "items": items,
            "users": 2,
            "interactions": 9,
            "rank": 2,
            "alpha": 20.0,
            "regularization": 0.05,
            "seed": 0,
            "offsets": [],
            "trained_at": START,
            "train_seconds": 1.0,
            "metrics": {},
            "slot": slot,
        }
        self.log.append("model-generations", record, key=name)

    def trending(self, scope: str, *ranking: tuple[int, float]) -> None:
        episodes = [{"episode_id": f"e:{n}", "score": s, "plays": 1} for n, s in ranking]
        record = {"scope": scope, "source_partition": 0, "at": START, "episodes": episodes}
        self.log.append("trending-episodes", record, key=f"{scope}|0")

    def events(self, *acts: tuple[Any, ...]) -> Message:
        """One batch of (user, kind, episode number, minute[, heard_ms])."""
        rows = []
        for user, kind, number, minute, *heard in acts:
            rows.append(
                {
                    "partition": PARTITION,
                    "offset": self.offset,
                    "event_id": f"event-{self.offset}",
                    "user_id": user,
                    "episode_id": f"e:{number}",
                    "kind": kind,
                    "occurred_at": START + timedelta(minutes=minute),
                    "heard_ms": heard[0] if heard else 0,
                    "position_ms": 0,
                }
            )
            self.offset += 1
        self.clock.move(1)
        frame = pl.DataFrame(rows, schema=dict(columnar.columns("user_event")))
        return self.log.append("user-event-batches", frame, partition=PARTITION)

    def run(self) -> None:
        self.runtime.run()

    def lists(self, user: str) -> list[dict[str, Any]]:
        return [r for r in self.log.decoded("recommendations") if r["user_id"] == user]

    def latest(self, user: str) -> dict[str, Any]:
        return self.lists(user)[-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    settings = Settings(podstream_home=tmp_path)
    runtime = MemoryRuntime(build_graph(settings.event_partitions), settings)
    made = World(runtime)
    for number in range(10):
        made.episode(number)
    runtime.start("recommend")
    return made


def ids(record: dict[str, Any]) -> list[str]:
    return [item["episode_id"] for item in record["items"]]


def test_a_stranger_gets_trending_even_for_an_impression(world: World) -> None:
    world.trending("all", (3, 8.0), (4, 4.0))
    world.trending("category:Science", (5, 2.0))
    message = world.events(("ann", "impression", 1, 0))
    world.run()
    record = world.latest("ann")
    assert ids(record)[0] == "e:3"
    assert set(ids(record)[:3]) == {"e:3", "e:4", "e:5"}
    assert len(record["items"]) == 10
    reasons = {item["episode_id"]: item["reason"] for item in record["items"]}
    assert reasons["e:3"] == "Trending now"
    assert reasons["e:5"] == "Trending in Science"
    assert reasons["e:0"] == "New in History"
    assert record["generation"] == ""
    assert record["caused_by"] == "event-0"
    assert int(record["updated_at"].timestamp() * 1000) == message.timestamp_ms
    assert record["items"][0]["title"] == "Title 3"
    assert record["items"][0]["show"] == "The Show"


def test_a_withdrawn_episode_is_recommended_no_more_until_it_is_back(world: World) -> None:
    for number in range(10):
        world.embedding(number)
    world.trending("all", (3, 8.0), (4, 4.0))
    world.events(("ann", "play", 1, 0))
    world.run()
    assert "e:3" in ids(world.latest("ann"))
    world.log.append("episode-metadata", None, key="e:3")
    world.log.append("episode-metadata", None, key="e:1")
    world.log.append("episode-metadata", None, key="e:99")
    world.events(("ann", "play", 5, 1), ("bob", "impression", 0, 2))
    world.run()
    assert len(world.latest("ann")["items"]) >= 6
    for user in ("ann", "bob"):
        assert not {"e:1", "e:3", "e:99"} & set(ids(world.latest(user)))
    world.episode(3)
    world.events(("bob", "play", 0, 3))
    world.run()
    assert "e:3" in ids(world.latest("bob"))


def test_an_episode_whose_vector_is_withdrawn_has_no_content_and_is_none_to_be_like(
    world: World,
) -> None:
    for number in range(10):
        world.embedding(number)
    world.events(("ann", "play", 1, 0))
    world.run()

    def content() -> Any:
        return {i["episode_id"]: i["parts"]["content"] for i in world.latest("ann")["items"]}

    assert content()["e:3"] > 0
    world.log.append("episode-embeddings", None, key="e:3")
    world.events(("ann", "play", 0, 1))
    world.run()
    assert content()["e:3"] == 0 < content()["e:5"]
    for heard in (0, 1):
        world.log.append("episode-embeddings", None, key=f"e:{heard}")
    world.events(("ann", "like", 1, 2))
    world.run()
    assert set(content().values()) == {0}


def test_impressions_of_a_known_listener_cause_no_list(world: World) -> None:
    world.events(("ann", "impression", 1, 0))
    world.run()
    world.events(("ann", "impression", 2, 1))
    world.run()
    assert len(world.lists("ann")) == 1
    world.events(("ann", "play", 2, 2))
    world.run()
    assert len(world.lists("ann")) == 2


def test_a_play_moves_the_list_and_what_was_heard_or_disliked_leaves_it(world: World) -> None:
    for number in range(10):
        world.embedding(number)
    world.generation("20260110T000000Z", range(8))
    world.events(
        ("ann", "play", 0, 0),
        ("ann", "progress", 0, 10, 600_000),
        ("ann", "complete", 0, 20, 600_000),
        ("ann", "dislike", 2, 21),
        ("bob", "progress", 1, 3, 900_000),
    )
    world.run()
    ann, bob = world.latest("ann"), world.latest("bob")
    assert "e:0" not in ids(ann)
    assert "e:2" not in ids(ann)
    assert set(ids(ann)[:3]) == {"e:4", "e:6", "e:8"}
    assert set(ids(bob)[:4]) == {"e:3", "e:5", "e:7", "e:9"}
    assert ann["generation"] == "20260110T000000Z"
    assert ann["caused_by"] == "event-3"
    reasons = {item["episode_id"]: item["reason"] for item in ann["items"]}
    assert reasons["e:4"] == ALIKE
    # the factors know nothing of episode 8: it is there by what is said in it
    assert reasons["e:8"] == "Because you finished “Title 0”"


def test_a_list_is_explained_by_what_its_signals_add_to_its_scores(world: World) -> None:
    """The explanation is of the list that was sent, and its parts add up to the scores."""
    for number in range(10):
        world.embedding(number)
    world.generation("20260110T000000Z", range(8))
    world.trending("all", *((number, 10.0 - number) for number in range(1, 10)))
    world.events(("ann", "play", 0, 0), ("ann", "progress", 0, 10, 600_000))
    world.run()
    stage = world.log.graph.stages["recommend"]
    context = MemoryContext(world.log, stage, Settings())
    references = References(context)
    for topic, apply in context.broadcasts.items():
        apply(world.log.records(topic))
    listener = asyncio.run(find_listener(context, "ann"))
    assert listener is not None
    told = explanation(references, "ann", listener, 50)
    sent = world.latest("ann")["items"]
    assert [(item.episode_id, item.reason) for item in told.items] == [
        (item["episode_id"], item["reason"]) for item in sent
    ]
    for item, served in zip(told.items, sent, strict=True):
        assert item.score == pytest.approx(served["score"], abs=1e-6)
        assert item.parts.ranked is served["parts"]["ranked"] is None
        for name in ("als", "content", "trending"):
            part = round(getattr(item.parts, name), PART_DECIMALS)
            assert part == pytest.approx(served["parts"][name], abs=1e-6)
        assert sum(item.earned) == pytest.approx(item.score, abs=1e-5)
    assert {item.earned.als > 0 for item in told.items} == {True, False}
    assert sum(told.weights) == pytest.approx(1)
    assert asyncio.run(find_listener(context, "nobody")) is None


def test_a_new_episode_is_reachable_through_content_at_once(world: World) -> None:
    for number in range(10):
        world.embedding(number)
    world.generation("20260110T000000Z", range(10))
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    world.episode(12, title="Fresh")
    world.embedding(12)
    world.events(("ann", "progress", 0, 5, 60_000))
    world.run()
    place = ids(world.latest("ann")).index("e:12")
    assert place < 5
    item = world.latest("ann")["items"][place]
    assert item["reason"] == "Because you listened to “Title 0”"
    assert item["parts"]["als"] == 0.0


def test_redelivery_sends_the_same_list_again_and_changes_no_state(world: World) -> None:
    for number in range(10):
        world.embedding(number)
    world.events(("ann", "progress", 0, 0, 900_000), ("bob", "impression", 1, 0))
    world.run()
    state = world.runtime.rows("recommend", LISTENERS)
    before = world.latest("ann"), world.latest("bob")
    world.runtime.crash("recommend", redeliver=1)
    world.run()
    assert world.runtime.rows("recommend", LISTENERS) == state
    assert (world.latest("ann"), world.latest("bob")) == before
    assert len(world.lists("ann")) == 2


def test_a_generation_with_numbers_that_are_none_reaches_no_list_and_is_told_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.generation("20260110T010000Z", range(10))
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    before = world.latest("ann")
    bad = {"episode_id": "e:3", "generation": "20260110T020000Z", "vector": vector(np.nan, 1.0)}
    world.log.append("item-factors", bad, key="e:3")
    world.generation("20260110T020000Z", [n for n in range(10) if n != 3], announce=False)
    world.announce("20260110T020000Z", 10)
    world.run()
    world.events(("ann", "progress", 2, 5, 900_000))
    for _ in range(2):  # also by a worker that reads everything anew
        world.run()
        after = world.latest("ann")
        assert after["generation"] == before["generation"] == "20260110T010000Z"
        assert all(np.isfinite(item["score"]) for item in after["items"])
        world.runtime.crash("recommend")
    refusals = world.log.decoded("generation-refusals")
    assert {(r["generation"], r["refused_by"]) for r in refusals} == {
        ("20260110T020000Z", "recommend")
    }
    assert all("1 of 10 factors" in refusal["refused_because"] for refusal in refusals)
    assert "20260110T010000Z stays in service" in caplog.text
    world.generation("20260110T030000Z", range(10))
    world.run()
    assert world.latest("ann")["generation"] == "20260110T030000Z"


def test_a_chosen_generation_makes_all_lists_until_another_is_chosen(world: World) -> None:
    first, second, third = (f"20260110T0{hour}0000Z" for hour in (1, 2, 3))
    world.generation(first, range(10))
    world.events(("ann", "progress", 0, 0, 900_000), ("bob", "progress", 1, 0, 900_000))
    world.run()
    old = {user: ids(world.latest(user)) for user in ("ann", "bob")}
    world.generation(second, range(6), slot=1)
    world.run()

    def carried() -> set[str]:
        return {world.latest(user)["generation"] for user in ("ann", "bob")}

    assert carried() == {second}
    before = world.latest("ann")["updated_at"]
    world.choose(first)
    world.run()
    assert carried() == {first}
    assert {user: ids(world.latest(user)) for user in ("ann", "bob")} == old
    assert world.latest("ann")["updated_at"] > before
    assert world.latest("ann")["caused_by"] == f"generation:{first}"
    world.generation(third, range(8), slot=2)
    world.events(("ann", "progress", 2, 5, 900_000))
    world.run()
    assert carried() == {first}
    chosen = world.latest("ann")
    world.runtime.crash("recommend", redeliver=1)  # all is read anew
    world.run()
    assert world.latest("ann") == chosen
    world.choose("20260110T990000Z")  # one that is not there
    world.run()
    assert carried() == {third}
    world.choose(second)
    world.run()
    assert carried() == {second}
    world.choose("")
    world.run()
    assert carried() == {third}


def test_a_kill_while_lists_are_refreshed_leaves_nobody_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event comes again for them, so a state may not say of a list that it is there."""
    for number in range(10):
        world.episode(number)
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    world.generation("20260110T010000Z", range(10))

    class Killed(Exception):
        pass

    context = world.runtime.start("recommend")

    async def lost(*_: Any, **__: Any) -> None:
        await context.flush()
        raise Killed

    monkeypatch.setattr(context, "send", lost)
    with pytest.raises(Killed):
        world.run()
    assert len(world.lists("ann")) == 1
    world.runtime.crash("recommend")
    world.run()
    assert world.latest("ann")["generation"] == "20260110T010000Z"


def test_a_generation_counts_when_it_is_whole_and_refreshes_everybody(world: World) -> None:
    world.events(("ann", "progress", 0, 0, 900_000), ("bob", "impression", 1, 0))
    world.run()
    world.generation("20260110T010000Z", range(9), announce=False)
    world.announce("20260110T010000Z", 10)
    world.run()
    assert len(world.lists("ann")) == 1
    world.generation("20260110T010000Z", [9], announce=False)
    world.run()
    for user in ("ann", "bob"):
        record = world.latest(user)
        assert record["generation"] == "20260110T010000Z"
        assert record["caused_by"] == "generation:20260110T010000Z"
        assert len(world.lists(user)) == 2
    assert set(ids(world.latest("ann"))[:4]) == {"e:2", "e:4", "e:6", "e:8"}
    world.run()
    world.runtime.crash("recommend")
    world.run()
    assert len(world.lists("ann")) == 2, "nobody who has the generation is refreshed again"


def test_the_first_embeddings_refresh_lists_too(world: World) -> None:
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    for number in range(10):
        world.embedding(number)
    world.run()
    record = world.latest("ann")
    assert record["caused_by"] == "generation:content"
    assert set(ids(record)[:4]) == {"e:2", "e:4", "e:6", "e:8"}


def test_lists_go_to_the_partition_of_the_events_under_the_listener(world: World) -> None:
    world.events(("ann", "play", 1, 0))
    world.run()
    (message,) = world.log.records("recommendations")
    assert (message.partition, message.key) == (PARTITION, b"ann")


def test_blend_weights_move_the_list(world: World) -> None:
    world.trending("all", (3, 8.0))
    for number in range(10):
        world.embedding(number)
    weights = {"intercept": 0.0, "samples": 9, "offset": 1, "at": START, "source_partition": 0}
    shares = {"als": 0.0, "content": 0.0, "trending": 1.0}
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    assert ids(world.latest("ann"))[0] != "e:3"
    world.log.append("blend-weights", {**weights, **shares}, key="0")
    world.events(("ann", "progress", 0, 1, 1_000))
    world.run()
    assert ids(world.latest("ann"))[0] == "e:3"


def test_a_batch_that_is_none_goes_to_the_dead_letters(world: World) -> None:
    world.log.append("user-event-batches", b"garbage", partition=PARTITION)
    world.events(("ann", "play", 1, 0))
    world.run()
    assert [m.value for m in world.log.records("user-event-batches.dlq")] == [b"garbage"]
    assert world.lists("ann")


def test_the_blend_learns_from_what_was_shown_and_played(world: World) -> None:
    world.runtime.start("learn_blend")
    for number in range(10):
        world.embedding(number)
    world.events(("ann", "progress", 0, 0, 900_000))
    world.run()
    world.events(("ann", "impression", 2, 1), ("ann", "impression", 3, 1))
    world.clock.move(3600)
    world.events(("ann", "play", 2, 2), ("ann", "progress", 4, 40))
    world.run()
    (weights,) = world.log.decoded("blend-weights")
    assert weights["samples"] == 2
    assert weights["source_partition"] == PARTITION
    assert weights["als"] + weights["content"] + weights["trending"] == pytest.approx(1.0)
    metrics = {m["metric"]: m for m in world.log.decoded("model-metrics")}
    assert set(metrics) == {"auc", "log_loss", "drift", "samples"}
    assert metrics["samples"]["generation"] == f"partition-{PARTITION}"
    state = world.runtime.rows("learn_blend", BLEND)
    world.runtime.crash("learn_blend", redeliver=2)
    world.run()
    assert world.runtime.rows("learn_blend", BLEND) == state
    assert world.log.decoded("blend-weights")[-1] == weights


def test_the_longest_list_with_the_longest_titles_fits(tmp_path: Path) -> None:
    settings = Settings(podstream_home=tmp_path, recommendation_count=500)
    runtime = MemoryRuntime(build_graph(settings.event_partitions), settings)
    world = World(runtime)
    random = Random(0)
    for number in range(520):
        # Wide signs in disorder: four bytes each, which no compression makes fewer.
        words = "".join(chr(random.randrange(0x20000, 0x2A000)) for _ in range(2_000))
        world.episode(number, title=words, show_title=words[::-1])
        world.embedding(number)
    runtime.start("recommend")
    world.events(("ann", "complete", 0, 1), ("ann", "like", 0, 2))
    world.run()
    made = world.latest("ann")
    assert len(made["items"]) > 400
    assert max(len(item["title"]) for item in made["items"]) == 300
    assert any("Because you" in item["reason"] for item in made["items"])
    assert world.log.records("recommendations.dlq") == []
