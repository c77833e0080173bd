"""The online blend: any batching, any duplicate delivery, the same weights; and it learns."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.forgetting import Forgetting
from streams.recommendation.core import blend
from streams.recommendation.core.blend import OUTCOME_MS, Blend, BlendEvent, fold
from streams.recommendation.core.scoring import DEFAULT_WEIGHTS, ScoreParts

MINUTE = 60_000
PARTS = {
    "e:1": ScoreParts(0.9, 0.2, 0.1),
    "e:2": ScoreParts(0.1, 0.8, 0.3),
    "e:3": ScoreParts(0.0, 0.1, 0.9),
}


def parts_of(user: str, episode: str) -> ScoreParts | None:
    return PARTS.get(episode)


def row(
    offset: int,
    kind: str,
    at: int,
    episode: str = "e:1",
    user: str = "ann",
    session: str | None = "s1",
    log_ms: int = 2**60,
) -> BlendEvent:
    return BlendEvent(offset, user, episode, kind, at, session, log_ms)


rows = st.lists(
    st.tuples(
        st.sampled_from(["impression", "impression", "play", "progress"]),
        st.integers(0, 200),
        st.sampled_from(["e:1", "e:2", "e:3", "e:unlisted"]),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["s1", "s2", None]),
    ),
    max_size=40,
).map(
    lambda drawn: [
        row(offset, kind, minute * MINUTE, episode, user, session)
        for offset, (kind, minute, episode, user, session) in enumerate(drawn)
    ]
)


@settings(max_examples=60, deadline=None)
@given(rows, st.lists(st.integers(0, 40), max_size=5), st.integers(0, 40))
def test_the_weights_do_not_depend_on_cuts_and_repeats(
    events: list[BlendEvent], cuts: list[int], back: int
) -> None:
    whole = fold(Blend(), events, parts_of)
    state = Blend()
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    for start, end in pairwise(edges):
        state = fold(state, events[max(0, start - back) : end], parts_of)
        state = blend.decode(blend.encode(state))
    assert state == blend.decode(blend.encode(whole))


def test_folding_leaves_the_state_before_alone() -> None:
    before = fold(Blend(), [row(0, "impression", 0)], parts_of)
    kept = blend.encode(before)
    fold(before, [row(1, "play", MINUTE)], parts_of)
    assert blend.encode(before) == kept


def outcome(*events: BlendEvent) -> tuple[int, int]:
    state = fold(Blend(), [row(0, "impression", 0), *events], parts_of)
    return state.samples, state.positives


def test_a_play_within_half_an_hour_is_a_yes() -> None:
    assert outcome(row(1, "play", OUTCOME_MS)) == (1, 1)


def test_a_later_play_is_a_no() -> None:
    assert outcome(row(1, "play", OUTCOME_MS + 1)) == (1, 0)


def test_half_an_hour_of_anybodys_time_is_a_no() -> None:
    assert outcome(row(1, "progress", OUTCOME_MS, user="bob")) == (0, 0)
    assert outcome(row(1, "progress", OUTCOME_MS + 1, user="bob")) == (1, 0)


def test_a_list_in_another_session_is_a_no_for_the_one_before() -> None:
    assert outcome(row(1, "impression", MINUTE, "e:2")) == (0, 0)
    assert outcome(row(1, "impression", MINUTE, "e:2", session="s2")) == (1, 0)


def test_a_clock_ahead_of_the_log_does_not_end_the_wait_of_others() -> None:
    ahead = row(1, "progress", 100 * OUTCOME_MS, user="bob", log_ms=MINUTE)
    assert outcome(ahead) == (0, 0)


def test_history_and_what_was_in_no_list_teach_nothing() -> None:
    events = [
        row(0, "progress", 100 * OUTCOME_MS),
        row(1, "impression", 0),
        row(2, "impression", 100 * OUTCOME_MS, "e:unlisted"),
    ]
    assert fold(Blend(), events, parts_of).pending == {}


def test_no_more_than_the_limit_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "MOST_PENDING", 2)
    events = [row(i, "impression", 0, f"e:{i}") for i in range(1, 4)]
    state = fold(Blend(), events, parts_of)
    assert list(state.pending["ann"]) == ["e:1", "e:2"]


@pytest.fixture(scope="module")
def learned() -> Blend:
    """Listeners who play what content says, whatever the other parts say."""
    random = np.random.default_rng(5)
    parts: dict[str, ScoreParts] = {}
    events: list[BlendEvent] = []
    for i in range(1500):
        a, c, t = random.random(3)
        parts[f"e:{i}"] = ScoreParts(a, c, t)
        events.append(row(len(events), "impression", i * MINUTE, f"e:{i}", session=f"s{i}"))
        if random.random() < 0.05 + 0.6 * c:
            events.append(row(len(events), "play", i * MINUTE + 1, f"e:{i}", session=f"s{i}"))
    return fold(Blend(), events, lambda user, episode: parts[episode])


def test_the_signal_that_earns_plays_gains_weight(learned: Blend) -> None:
    weights = blend.weights(learned)
    assert weights.content > 0.6
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1.0)


def test_figures_tell_a_model_that_ranks(learned: Blend) -> None:
    figures = blend.figures(learned)
    assert 0.6 < figures["auc"] < 0.9
    assert figures["log_loss"] < np.log(2)
    assert figures["drift"] == 0.0
    assert figures["samples"] == learned.samples >= 1490


def test_drift_is_flagged_when_the_outcome_no_longer_fits_the_prediction() -> None:
    state = Blend(samples=300, window=[(1, 0.9)] * 150 + [(0, 0.9)] * 150)
    assert blend.figures(state)["drift"] == 1.0


def test_a_loss_that_falls_is_no_drift() -> None:
    state = Blend(samples=300, window=[(0, 0.9)] * 150 + [(1, 0.9)] * 150)
    assert blend.figures(state)["drift"] == 0.0


def test_before_anything_was_learned_the_defaults_stand() -> None:
    assert blend.weights(Blend()) == DEFAULT_WEIGHTS
    assert blend.figures(Blend()) == {"samples": 0.0}
    hurts = Blend(coefficients={"als": -1.0, "content": -0.1, "trending": 0.0}, samples=9)
    assert blend.weights(hurts) == DEFAULT_WEIGHTS


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 40), st.integers(0, 5))
def test_of_a_listener_who_is_forgotten_nothing_of_before_awaits_its_outcome(
    events: list[BlendEvent], place: int, again: int
) -> None:
    place = min(place, len(events))
    forgetting = Forgetting("ann", place, place - 1, 0)
    told: list[BlendEvent | Forgetting] = [forgetting]
    whole = fold(Blend(), [*events[:place], *told, *events[place:]], parts_of)
    # Their time has passed for everybody.
    before = [e._replace(kind="progress") if e.user_id == "ann" else e for e in events[:place]]
    anew = fold(Blend(), [*before, *events[place:]], parts_of)
    assert whole.pending.get("bob") == anew.pending.get("bob")
    assert whole.pending.get("ann") == anew.pending.get("ann")
    # Redelivered, the message says nothing about what came after it.
    cut = fold(Blend(), [*events[:place], *told, *events[place : place + again]], parts_of)
    behind = [*events[max(0, place - again) : place], *told, *events[place:]]
    assert fold(cut, behind, parts_of) == whole
