"""What a generation makes lists with: neighbours and a ranker, learned from cuts in time.

The newest cut measures what the older ones teach, beside simpler models on the same cut; then
the ranker that is published learns from all of them. Where there is too little to learn from, or
what was learned is worth no more than ALS alone, there is none, and it is said why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.core.evaluation import evaluate
from jobs.core.interactions import Interactions
from jobs.core.item_item import learn_items
from jobs.core.ranking import Lesson, examples, item_item, learn, two_stage
from streams.recommendation.core.item_model import Factors, ItemModel
from streams.recommendation.core.ranker import Ranker

ITEM_ITEM, TWO_STAGE = "item_item", "two_stage"
CUTS = 3
FEWEST_LISTS = 30
"""Of fewer lists than these a ranker would learn by heart what is in them."""

DECISIVE = "ndcg_at_10"

Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class ListTraining:
    """The outcome: a model with its ranker, or why there is none; figures by model and metric."""

    model: ItemModel | None = None
    ranker: Ranker | None = None
    unranked_because: str = ""
    metrics: Metrics = field(default_factory=dict)


def train_lists(
    pairs: Interactions,
    factors: Factors,
    lessons: Sequence[Lesson],
    worth_of_als: float,
    seed: int,
) -> ListTraining:
    """Neighbours of all ``pairs`` and the ranker of ``lessons``, newest first.

    ``factors`` are those of all pairs; ``worth_of_als`` is the nDCG of ALS on the newest cut.
    """
    if len(lessons) < 2:
        return ListTraining(unranked_because="no listener has enough to be held out twice")
    newest = lessons[0]
    metrics = {
        ITEM_ITEM: evaluate(item_item(newest.model, newest.train), newest.train, newest.held)
    }
    lists = [examples(lesson.model, lesson.train, lesson.held) for lesson in lessons]
    known = sum(len(some.lengths) for some in lists[1:])
    earlier = learn(lists[1:], seed) if known >= FEWEST_LISTS else None
    if earlier is None:
        why = f"only {known} lists hold something that was held out, of {FEWEST_LISTS} needed"
        return ListTraining(unranked_because=why, metrics=metrics)
    score = two_stage(newest.model, earlier, newest.train)
    metrics[TWO_STAGE] = evaluate(score, newest.train, newest.held)
    worth = metrics[TWO_STAGE][DECISIVE]
    if worth < worth_of_als:
        why = f"ranked lists have a {DECISIVE} of {worth:.4f}, ALS alone of {worth_of_als:.4f}"
        return ListTraining(unranked_because=why, metrics=metrics)
    return ListTraining(learn_items(pairs, factors), learn(lists, seed), "", metrics)
