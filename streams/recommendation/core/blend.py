"""Learning online how much each part of a score earns plays.

An episode shown to a listener (`impression`) waits for its outcome: a play of it by that listener
within half an hour of event time is a yes; half an hour without one, or a list shown in another
session, is a no. Each outcome is first predicted, then learned from, by logistic regression with
plain SGD at a fixed rate, so that the model is nothing but its coefficients.

The clock is event time, held back to the time of the log, so that one listener's wrong clock does
not end the others' half hours; a listener's own clock ends only his own. What is shown later than
half an hour behind the clock (history being imported) was not shown from the current list and
teaches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from river import drift, linear_model, metrics, optim
from river.utils import VectorDict

from schemas.units import MINUTE_MS
from streams.kafka.forgetting import Forgetting
from streams.recommendation.core.scoring import DEFAULT_WEIGHTS, ScoreParts

OUTCOME_MS = 30 * MINUTE_MS
LEARNING_RATE = 0.05
MOST_PENDING = 500
"""Impressions awaiting their outcome; while it is full, new ones are not sampled."""

WINDOW = 300
"""Outcomes over which the figures are computed."""

PRIOR_SAMPLES = 200.0
"""How many outcomes the default weights count as."""


class PendingImpression(NamedTuple):
    """An impression that awaits its outcome."""

    at: int
    session: str | None
    als: float
    content: float
    trending: float

    @property
    def parts(self) -> dict[str, float]:
        """The score by signal, from 0 to 1, that the episode was recommended with."""
        return {"als": self.als, "content": self.content, "trending": self.trending}


class BlendEvent(NamedTuple):
    """What counts here of a `user_event` row; times in ms since 1970, ``log_ms`` the log's own."""

    offset: int
    user_id: str
    episode_id: str
    kind: str
    occurred_at: int
    session_id: str | None
    log_ms: int


@dataclass
class Blend:
    """The online model of one source partition; as JSON it is the state in the table."""

    offset: int = -1
    clock_ms: int = 0
    coefficients: dict[str, float] = field(default_factory=dict)
    intercept: float = 0.0
    samples: int = 0
    positives: int = 0
    pending: dict[str, dict[str, PendingImpression]] = field(default_factory=dict)
    """By user_id, then episode_id."""
    window: list[tuple[int, float]] = field(default_factory=list)
    """Outcome and predicted probability of the latest samples, oldest first."""


PartsOf = Callable[[str, str], ScoreParts | None]
"""The parts of an episode in the list of a listener; None if it is not in it."""


def encode(blend: Blend) -> bytes:
    """The blend as JSON, in UTF-8: what the state's log keeps."""
    return json.dumps(asdict(blend), separators=(",", ":")).encode()


def decode(value: bytes) -> Blend:
    """The state in ``value``."""
    state = json.loads(value)
    state["pending"] = {
        user: {episode: PendingImpression(*shown) for episode, shown in episodes.items()}
        for user, episodes in state["pending"].items()
    }
    state["window"] = [(outcome, probability) for outcome, probability in state["window"]]
    return Blend(**state)


def fold(blend: Blend, rows: Iterable[BlendEvent | Forgetting], parts_of: PartsOf) -> Blend:
    """The state after the rows of one partition, in offset order; those applied are skipped.

    What a listener who is forgotten was shown has no outcome; what was learned is of nobody.
    """
    return _Fold(blend, parts_of).run(rows)


class _Fold:
    def __init__(self, blend: Blend, parts_of: PartsOf):
        self._state = replace(
            blend, pending={user: dict(episodes) for user, episodes in blend.pending.items()}
        )
        self._parts_of = parts_of
        self._model = linear_model.LogisticRegression(
            optimizer=optim.SGD(LEARNING_RATE),
            intercept_lr=LEARNING_RATE,
            intercept_init=blend.intercept,
        )
        # river gives no other way to start with them
        self._model._weights = VectorDict(dict(blend.coefficients))  # noqa: SLF001
        self._waiting = sum(len(episodes) for episodes in blend.pending.values())
        self._oldest_ms = self._find_oldest()

    def run(self, rows: Iterable[BlendEvent | Forgetting]) -> Blend:
        state = self._state
        for row in rows:
            if isinstance(row, Forgetting):
                self._forget(row)
                continue
            if row.offset <= state.offset:
                continue
            state.offset = row.offset
            state.clock_ms = max(state.clock_ms, min(row.occurred_at, row.log_ms))
            if state.clock_ms - self._oldest_ms > OUTCOME_MS:
                self._expire_all()
            if row.kind == "impression":
                self._show(row)
            elif row.kind == "play":
                self._play(row)
        state.coefficients = dict(self._model.weights)
        state.intercept = float(self._model.intercept)
        return state

    def _forget(self, forgetting: Forgetting) -> None:
        # A state that is further has it behind it: what awaits its outcome now came later.
        if self._state.offset <= forgetting.up_to:
            self._waiting -= len(self._state.pending.pop(forgetting.user_id, {}))
            self._oldest_ms = self._find_oldest()

    def _show(self, row: BlendEvent) -> None:
        mine = self._state.pending.get(row.user_id, {})
        for episode, shown in list(mine.items()):
            late = row.occurred_at - shown.at > OUTCOME_MS
            if late or shown.session != row.session_id:
                self._settle(row.user_id, episode, played=False)
        if self._waiting >= MOST_PENDING or row.episode_id in mine:
            return
        if self._state.clock_ms - row.occurred_at > OUTCOME_MS:
            return
        parts = self._parts_of(row.user_id, row.episode_id)
        if parts is None:
            return
        shown = PendingImpression(
            row.occurred_at, row.session_id, *(round(part, 4) for part in parts)
        )
        self._state.pending.setdefault(row.user_id, {})[row.episode_id] = shown
        self._waiting += 1
        self._oldest_ms = min(self._oldest_ms, shown.at)

    def _play(self, row: BlendEvent) -> None:
        shown = self._state.pending.get(row.user_id, {}).get(row.episode_id)
        if shown is not None:
            in_time = 0 <= row.occurred_at - shown.at <= OUTCOME_MS
            self._settle(row.user_id, row.episode_id, played=in_time)

    def _expire_all(self) -> None:
        bar = self._state.clock_ms - OUTCOME_MS
        for user, episodes in list(self._state.pending.items()):
            for episode, shown in list(episodes.items()):
                if shown.at < bar:
                    self._settle(user, episode, played=False)
        self._oldest_ms = self._find_oldest()

    def _find_oldest(self) -> int:
        times = (shown.at for mine in self._state.pending.values() for shown in mine.values())
        # Nothing waiting: nothing can be too old, whatever the clock says.
        return min(times, default=2**62)

    def _settle(self, user: str, episode: str, *, played: bool) -> None:
        state = self._state
        mine = state.pending[user]
        features = mine.pop(episode).parts
        if not mine:
            del state.pending[user]
        self._waiting -= 1
        probability = self._model.predict_proba_one(features)[True]
        self._model.learn_one(features, played)
        state.samples += 1
        state.positives += played
        state.window = [*state.window, (int(played), round(probability, 4))][-WINDOW:]


def weights(blend: Blend) -> ScoreParts:
    """Blend weights, non-negative with sum 1: the positive coefficients, scaled to sum to 1, are
    averaged with the default weights, which count as ``PRIOR_SAMPLES`` outcomes. A part that
    earns nothing thus fades and is never cut off at once; without a positive coefficient the
    defaults stay."""
    positive = [max(0.0, blend.coefficients.get(name, 0.0)) for name in ScoreParts._fields]
    total = sum(positive)
    if total <= 0:
        return DEFAULT_WEIGHTS
    trust = blend.samples / (blend.samples + PRIOR_SAMPLES)
    return ScoreParts(
        *(
            trust * value / total + (1 - trust) * default
            for value, default in zip(positive, DEFAULT_WEIGHTS, strict=True)
        )
    )


def figures(blend: Blend) -> dict[str, float]:
    """Prequential figures over the latest outcomes: `auc` (once both outcomes were seen),
    `log_loss`, `drift` (1 if ADWIN finds that the log-loss rose within them) and `samples`."""
    auc = metrics.RollingROCAUC(window_size=WINDOW)
    mean_loss = metrics.LogLoss()
    adwin = drift.ADWIN()
    drifted = False
    for outcome, probability in blend.window:
        auc.update(bool(outcome), probability)
        one = metrics.LogLoss()
        one.update(bool(outcome), probability)
        adwin.update(one.get())
        mean_loss.update(bool(outcome), probability)
        # A loss that falls is a model that learns, not a world that changed.
        drifted |= adwin.drift_detected and adwin.estimation > mean_loss.get()
    found = {"samples": float(blend.samples)}
    if blend.window:
        found |= {"log_loss": mean_loss.get(), "drift": float(drifted)}
    if {outcome for outcome, _ in blend.window} == {0, 1}:
        found["auc"] = auc.get()
    return found
