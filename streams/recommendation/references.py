"""What `recommend` knows of the broadcast topics: episodes, models, embeddings, trends, weights.

Every worker reads all of them, from their first record. One that does not decode is passed over:
the stage that consumes the topic has it dead-lettered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from streams.engagement.core.trending import is_of_a_language, merge_scopes
from streams.kafka.message import Message
from streams.recommendation.core.generations import Refusal
from streams.recommendation.core.items import Items
from streams.recommendation.core.model_records import slot_of
from streams.recommendation.core.scoring import ScoreParts, mean_weights
from streams.runtime.context import Context, broadcast_records
from topology.topics.engagement import TRENDING_EPISODES
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.operations import SERVED_GENERATION
from topology.topics.recommendation import (
    BLEND_WEIGHTS,
    ITEM_FACTORS,
    ITEM_NEIGHBOURS,
    MODEL_GENERATIONS,
    RANKERS,
)
from topology.topics.similarity import EPISODE_EMBEDDINGS

log = logging.getLogger(__name__)

CONTENT = "content"
"""What stands for a model generation while there are embeddings and no factors yet."""


class References:
    """The newest of what the broadcast topics say."""

    def __init__(self, context: Context):
        self.items = Items()
        self.weights: ScoreParts = mean_weights([])
        self.refusals: list[Refusal] = []
        """Generations that are refused, to be told."""
        self._context = context
        self._rankings: dict[str, dict[int, dict[str, Any]]] = {}
        self._blends: dict[int, dict[str, Any]] = {}
        self._content_ms: int | None = None
        for topic, handler in (
            (EPISODE_METADATA, self._handle_episode_metadata),
            (ITEM_FACTORS, self._handle_item_factors),
            (ITEM_NEIGHBOURS, self._handle_item_neighbours),
            (RANKERS, self._handle_rankers),
            (MODEL_GENERATIONS, self._handle_model_generations),
            (SERVED_GENERATION, self._handle_served_generation),
            (EPISODE_EMBEDDINGS, self._handle_episode_embeddings),
            (TRENDING_EPISODES, self._handle_trending_episodes),
            (BLEND_WEIGHTS, self._handle_blend_weights),
        ):
            context.broadcast(topic, handler)

    @property
    def basis(self) -> str:
        """What lists are made with now: a model generation, `CONTENT`, or nothing yet."""
        if self.items.factors:
            return self.items.factors.generation
        return CONTENT if self._content_ms is not None else ""

    @property
    def basis_ms(self) -> int:
        """The log's time, ms since 1970, at which the basis became what it is."""
        return self.items.generations.serving_ms or self._content_ms or 0

    def _handle_episode_metadata(self, messages: Sequence[Message]) -> None:
        for message, episode in broadcast_records(self._context, messages):
            if episode is not None:
                self.items.put_episode(episode)
            elif message.key is not None:
                self.items.drop_episode(message.key_text)

    def _handle_item_factors(self, messages: Sequence[Message]) -> None:
        for message, factors in broadcast_records(self._context, messages):
            if factors is not None:
                self.items.generations.put_factors(factors, slot_of(message.key_text))
        self._activate()

    def _handle_item_neighbours(self, messages: Sequence[Message]) -> None:
        for message, neighbours in broadcast_records(self._context, messages):
            if neighbours is not None:
                self.items.generations.put_neighbours(neighbours, slot_of(message.key_text))
        self._activate()

    def _handle_rankers(self, messages: Sequence[Message]) -> None:
        for message, ranker in broadcast_records(self._context, messages):
            if ranker is not None:
                self.items.generations.put_ranker(ranker, slot_of(message.key_text))
        self._activate()

    def _handle_model_generations(self, messages: Sequence[Message]) -> None:
        for message, generation in broadcast_records(self._context, messages):
            if generation is not None:
                self.items.generations.announce(generation, message.timestamp_ms)
        self._activate()

    def _handle_served_generation(self, messages: Sequence[Message]) -> None:
        for message, choice in broadcast_records(self._context, messages):
            if choice is not None:
                self.items.generations.choose(choice, message.timestamp_ms)
        self._activate()

    def _activate(self) -> None:
        """Take over the generation that is to serve once its record and all of it are here.

        One that cannot be served is refused: what was served before goes on.
        """
        changed = self.items.activate()
        for refusal in self.items.generations.new_refusals():
            log.warning(
                "generation %s is refused, %s: %s",
                refusal.generation,
                f"{self.basis} stays in service" if self.basis else "and there is no other",
                refusal.because,
            )
            self.refusals.append(refusal)
        if changed and (factors := self.items.factors):
            why = f", without a ranker: {factors.unranked_because}" if not factors.lists else ""
            log.info("generation %s is active%s", factors.generation, why)

    def _handle_episode_embeddings(self, messages: Sequence[Message]) -> None:
        for message, embedding in broadcast_records(self._context, messages):
            if embedding is not None:
                self.items.put_embedding(embedding)
                self._note_content(message)
            elif message.key is not None:
                self.items.drop_embedding(message.key_text)

    def _note_content(self, message: Message) -> None:
        # Content is worth new lists for everybody once it covers half of the episodes.
        embeddings = self.items.embeddings
        covered = embeddings is not None and embeddings.count * 2 >= len(self.items.episodes)
        if covered and self._content_ms is None:
            self._content_ms = message.timestamp_ms

    def _handle_trending_episodes(self, messages: Sequence[Message]) -> None:
        # The key is the scope and a partition; there may be hundreds that nobody asks for here.
        scopes = ((message.key_text.rpartition("|")[0], message) for message in messages)
        wanted = [message for scope, message in scopes if not is_of_a_language(scope)]
        changed = set()
        for _, ranking in broadcast_records(self._context, wanted):
            if ranking is not None:
                of_scope = self._rankings.setdefault(ranking["scope"], {})
                of_scope[ranking["source_partition"]] = ranking
                changed.add(ranking["scope"])
        if changed:
            self.items.set_trending({scope: self._merged(scope) for scope in changed})

    def _merged(self, scope: str) -> list[tuple[str, float]]:
        places = merge_scopes(self._rankings[scope].values())
        return [(place["episode_id"], place["score"]) for place in places]

    def _handle_blend_weights(self, messages: Sequence[Message]) -> None:
        for _, weights in broadcast_records(self._context, messages):
            if weights is not None:
                self._blends[weights["source_partition"]] = weights
        self.weights = mean_weights(self._blends.values())
