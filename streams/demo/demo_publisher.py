"""What the demo index has published at a moment, with the edits and withdrawals made since."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from streams.demo.demo_catalogue import Catalogue, DemoEpisode

Clock = Callable[[], float]


class Publisher:
    """Brings the episodes of a catalogue out, one every ``trickle_s`` seconds.

    ``clock`` gives unix seconds; ``started_at`` is the moment from which new episodes count.
    Edits and withdrawals are kept in memory: a restart of the index takes them back.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        started_at: float,
        trickle_s: float = 10.0,
        clock: Clock = time.time,
    ) -> None:
        self.catalogue = catalogue
        self._started_at = started_at
        self._trickle_s = trickle_s
        self._clock = clock
        self._edited: dict[int, DemoEpisode] = {}
        self._withdrawn: set[int] = set()
        self._touched_at: dict[int, int] = {}

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def published_at(self, episode: DemoEpisode) -> int:
        """Unix seconds at which an episode appears."""
        if episode.release is None:
            return int(self._started_at - (episode.age_s or 0))
        return int(self._started_at + (episode.release + 1) * self._trickle_s)

    def changed_at(self, episode: DemoEpisode) -> int:
        """Unix seconds at which an episode appeared, or was last edited or withdrawn."""
        return self._touched_at.get(episode.episode_id, self.published_at(episode))

    def find(self, episode_id: int) -> DemoEpisode | None:
        """The episode as it is now; None before it appears and after it is withdrawn."""
        episode = self.catalogue.episodes.get(episode_id)
        if (
            episode is None
            or episode_id in self._withdrawn
            or self.published_at(episode) > self._clock()
        ):
            return None
        return self._edited.get(episode_id, episode)

    def visible(self) -> list[DemoEpisode]:
        """What has been published by now, newest first."""
        shown = [e for number in self.catalogue.episodes if (e := self.find(number)) is not None]
        return sorted(shown, key=lambda e: (-self.published_at(e), e.episode_id))

    def of_feed(self, feed_id: int) -> list[DemoEpisode]:
        """What a show has published by now, newest first."""
        return [episode for episode in self.visible() if episode.feed_id == feed_id]

    def feed_changed_at(self, feed_id: int) -> int:
        """Unix seconds of a show's newest episode, edit or withdrawal; 0 if it has nothing."""
        now = self._clock()
        return max(
            (
                self.changed_at(e)
                for e in self.catalogue.episodes.values()
                if e.feed_id == feed_id and self.published_at(e) <= now
            ),
            default=0,
        )

    def edit(self, episode_id: int, title: str | None, description: str | None) -> bool:
        """Give a published episode another title or description; False if there is none."""
        episode = self.find(episode_id)
        if episode is None:
            return False
        self._edited[episode_id] = replace(
            episode,
            title=episode.title if title is None else title,
            description=episode.description if description is None else description,
        )
        self._touched_at[episode_id] = int(self._clock())
        return True

    def withdraw(self, episode_id: int) -> bool:
        """Take a published episode back; False if there is none."""
        if self.find(episode_id) is None:
            return False
        self._withdrawn.add(episode_id)
        self._touched_at[episode_id] = int(self._clock())
        return True
