"""The generations that were trained, and what became of each, as people are shown them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from streams.recommendation.core.catalogue import MODEL, Catalogue

CHOSEN = "chosen by hand, newer ones wait: `podstream model promote latest` lets them serve"

State = Literal["serving", "kept", "refused", "past"]
"""Lists are made with it; they could be; they never are; they were once."""


@dataclass(frozen=True)
class ListedGeneration:
    """A training: what it was made of, what it was worth, and what became of it.

    ``interactions`` are listener-episode pairs; ``model`` made the lists that were judged, with
    ``ndcg_at_10`` over so many ``listeners`` and a standard error of ``error``, beside
    ``popularity``; None where nothing was held out. ``because`` says why it is refused, that it was
    chosen, or why its lists are blended, or nothing.
    """

    generation: str
    state: State
    trained_at: datetime
    train_seconds: float
    users: int
    items: int
    interactions: int
    model: str | None
    ndcg_at_10: float | None
    error: float | None
    popularity: float | None
    listeners: int | None
    because: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {**asdict(self), "trained_at": self.trained_at.isoformat()}


def listed(
    generations: Iterable[Mapping[str, Any]],
    refusals: Iterable[Mapping[str, Any]],
    choice: Mapping[str, Any] | None,
    kept: int,
) -> list[ListedGeneration]:
    """What the records of `model-generations` and `generation-refusals` tell, newest first.

    They may come in any order; of several of one generation the last counts. ``choice`` is the
    last record of `served-generation`; so many generations are ``kept``.
    """
    catalogue = Catalogue()
    records: dict[str, Mapping[str, Any]] = {}
    for record in generations:
        if record["model"] == MODEL:
            catalogue.announce(record)
            records[record["generation"]] = record
    refused = {refusal["generation"]: refusal["refused_because"] for refusal in refusals}
    for name in refused:
        catalogue.refuse(name)
    for name, record in records.items():
        if because := record.get("refused_because"):
            refused[name] = because
    if choice is not None:
        catalogue.choose(choice)
    usable = catalogue.usable()[:kept]
    because = {usable[0]: CHOSEN, **refused} if catalogue.chosen in usable else refused
    return [
        _one(records[name], _state(name, usable, refused), because.get(name, ""))
        for name in sorted(records, reverse=True)
    ]


def serving(generations: Iterable[ListedGeneration]) -> ListedGeneration | None:
    """The generation that lists are made with, if there is one."""
    return next((one for one in generations if one.state == "serving"), None)


def refused_lately(generations: Iterable[ListedGeneration]) -> list[ListedGeneration]:
    """The generations that are refused and newer than any other, newest first."""
    found = list[ListedGeneration]()
    for one in generations:
        if one.state != "refused":
            break
        found.append(one)
    return found


def _state(name: str, usable: list[str], refused: Mapping[str, str]) -> State:
    if name in refused:
        return "refused"
    if name not in usable:
        return "past"
    return "serving" if name == usable[0] else "kept"


def _one(record: Mapping[str, Any], state: State, because: str) -> ListedGeneration:
    judged: Mapping[str, Any] = record.get("judged") or {}
    unranked = record.get("unranked_because", "")
    return ListedGeneration(
        generation=record["generation"],
        state=state,
        trained_at=record["trained_at"],
        train_seconds=record["train_seconds"],
        users=record["users"],
        items=record["items"],
        interactions=record["interactions"],
        model=judged.get("model"),
        ndcg_at_10=judged.get("ndcg_at_10"),
        error=judged.get("error"),
        popularity=judged.get("popularity"),
        listeners=judged.get("listeners"),
        because=because or (unranked and f"not ranked: {unranked}"),
    )


class ChoiceError(RuntimeError):
    """What was asked cannot be chosen; the text says why."""


LATEST = "latest"
"""How people call it that the newest generation serves, whichever that is."""


def promoted(found: Sequence[ListedGeneration], wanted: str, at: datetime) -> dict[str, Any]:
    """The `served_generation` record by which ``wanted``, a generation or `LATEST`, serves.

    ChoiceError unless it is kept.
    """
    served = serving(found)
    usable = [one.generation for one in found if one.state in ("serving", "kept")]
    if wanted == LATEST:
        wanted = ""
    elif wanted not in usable:
        of_that = next((one for one in found if one.generation == wanted), None)
        why = f"is {of_that.state}" if of_that is not None else "is not known"
        kept = ", ".join(usable) or "there is none"
        raise ChoiceError(f"Generation {wanted} {why}. Those that can serve: {kept}.")
    before = served.generation if served is not None else ""
    return {"model": MODEL, "generation": wanted, "before": before, "promoted_at": at}


def rolled_back(found: Sequence[ListedGeneration], at: datetime) -> dict[str, Any]:
    """The `served_generation` record by which the newest one that is older than the one in service
    serves. ChoiceError unless there is one."""
    served = serving(found)
    if served is None:
        raise ChoiceError("No generation serves yet.")
    kept = [one.generation for one in found if one.state == "kept"]
    older = [name for name in kept if name < served.generation]
    if not older:
        raise ChoiceError(f"No generation is kept that is older than {served.generation}.")
    return promoted(found, older[0], at)
