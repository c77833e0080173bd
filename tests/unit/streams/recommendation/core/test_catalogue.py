"""Which generation is served, whatever the order in which the log is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.recommendation.core.catalogue import Catalogue


def record(name: str, slot: int = 0, because: str = "", model: str = "als") -> dict[str, Any]:
    return {"generation": name, "slot": slot, "refused_because": because, "model": model}


names = st.integers(1, 9).map(lambda number: f"g{number}")
told = st.dictionaries(names, st.tuples(st.integers(0, 2), st.booleans()), max_size=9)


@given(told, st.sets(names), st.randoms(use_true_random=False), st.integers(0, 20))
def test_order_and_repeats_of_records_change_nothing(
    generations: dict[str, tuple[int, bool]], refused: set[str], random: Any, again: int
) -> None:
    def steps(catalogue: Catalogue) -> list[Callable[[], None]]:
        records = (record(n, s, "worse" * bad) for n, (s, bad) in generations.items())
        announced = [partial(catalogue.announce, one) for one in records]
        return [*announced, *(partial(catalogue.refuse, name) for name in refused)]

    once, shuffled = Catalogue(), Catalogue()
    for step in steps(once):
        step()
    mixed = steps(shuffled)
    mixed += mixed[:again]
    random.shuffle(mixed)
    for step in mixed:
        step()
    assert shuffled.candidates() == once.candidates()
    assert shuffled.newest == once.newest
    sound = {n for n, (_, bad) in generations.items() if not bad} - refused
    assert set(once.candidates()) <= sound
    for slot in range(3):
        of_slot = {n for n in sound if generations[n][0] == slot}
        published = sorted((n for n, (s, bad) in generations.items() if s == slot and not bad))
        if of_slot & set(published[-3:]):
            assert max(of_slot) in once.candidates()


def test_models_of_others_are_no_candidates() -> None:
    catalogue = Catalogue()
    catalogue.announce(record("g1", model="blend"))
    assert catalogue.candidates() == []


steps = st.lists(
    st.one_of(st.just("train"), st.just("refuse"), st.just("latest"), st.integers(0, 5)),
    max_size=40,
)


@given(steps, st.integers(2, 4))
def test_no_training_overwrites_what_is_kept_and_slots_are_few(
    history: list[str | int], kept: int
) -> None:
    """Trainings, refusals of the newest, and choices among what is kept, one after another."""
    catalogue = Catalogue()
    topics: dict[int, str] = {}  # what a compacted topic holds of each slot
    refused = set[str]()
    number, chosen = 10, ""
    for step in history:
        keepers = catalogue.usable()[:kept]
        if step == "train":
            number += 1
            slot = catalogue.free_slot(kept)
            assert topics.get(slot) not in keepers
            topics[slot] = f"g{number}"
            catalogue.announce(record(topics[slot], slot))
        elif step == "refuse" and topics:
            refused.add(max(topics.values()))
            catalogue.refuse(max(topics.values()))
        elif step == "latest" or (isinstance(step, int) and step < len(keepers)):
            chosen = keepers[step] if isinstance(step, int) else ""
            catalogue.choose({"model": "als", "generation": chosen})
        assert set(topics) <= set(range(kept + 1))
        sound = set(topics.values()) - refused
        best = sorted(sound, key=lambda name: (name == chosen, name), reverse=True)
        assert catalogue.usable() == best or (not best and len(catalogue.usable()) <= 1)
