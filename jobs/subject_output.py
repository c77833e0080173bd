"""What the driver says of subjects: which there are, and which each episode belongs to.

Subjects are the groups of episodes that speak of the same thing. Outside they are called topics:
in the topics `topics` and `episode-topics`, their Delta tables and on the pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.core.subjects import Phrases, Subject, Subjects
from jobs.output import Output
from schemas.vectors import read_vector, vector_bytes
from streams.transcripts.core.analysis.keywords import keyphrases
from topology.topics.similarity import EPISODE_SUBJECTS, SUBJECTS

_PHRASES = 8
"""Keyphrases of an episode that labels are made of."""


class SubjectOutput:
    """The subjects of all episodes, sent where they have changed.

    What a process before this one had sent last is not known: it is sent once more.
    """

    def __init__(self, output: Output, model: str):
        self._output = output
        self._model = model
        self._phrases: dict[str, Phrases] = {}
        self._known: dict[str, Subject] = {}
        self._subjects: Subjects | None = None
        self._sent: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def restore(self, subject_id: str, record: Mapping[str, Any] | None) -> None:
        """Take over what is in `topics`, in the order of the log."""
        self._known.pop(subject_id, None)
        if record is not None and record["model"] == self._model:
            centroid = read_vector(record["centroid"])
            self._known[subject_id] = Subject(subject_id, record["label"], record["size"], centroid)

    def restore_phrases(self, episode_id: str, analysis: Mapping[str, Any] | None) -> None:
        """Take over the keyphrases of what is in `episode-analysis`, in the order of the log."""
        self._phrases.pop(episode_id, None)
        if analysis is not None:
            found = [(entry["phrase"], entry["score"]) for entry in analysis["keywords"]]
            self._put(episode_id, found)

    def has_phrases(self, episode_id: str) -> bool:
        """Whether the keyphrases of an episode are known."""
        return episode_id in self._phrases

    def read(self, transcript: Mapping[str, Any]) -> None:
        """Take the keyphrases of a transcript that is embedded now."""
        found = keyphrases(transcript["text"], transcript["language"])
        self._put(transcript["episode_id"], [(key.phrase, key.score) for key in found])

    def _put(self, episode_id: str, phrases: Phrases) -> None:
        self._phrases[episode_id] = [(intern(name), score) for name, score in phrases[:_PHRASES]]

    def withdraw(self, episode_id: str) -> None:
        """The episode belongs to no subject any more."""
        self._phrases.pop(episode_id, None)
        self._sent.pop(episode_id, None)
        self._output.send(EPISODE_SUBJECTS.name, None, episode_id)

    def send(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Group anew if there are enough new ones; send what has changed."""
        interrupted = False
        if self._subjects is None:
            self._subjects = Subjects(list(self._known.values()))
            # Sizes are told with every change: if they do not add up, a grouping was cut off.
            interrupted = self._subjects.grouped != len(ids)
        regrouped = self._subjects.due(len(ids), interrupted)
        if regrouped:
            phrases = [self._phrases.get(episode_id, ()) for episode_id in ids]
            gone = self._subjects.regroup(vectors, phrases)
            for subject_id in sorted(gone):
                self._output.send(SUBJECTS.name, None, subject_id)
                self._sizes.pop(subject_id, None)
            # If they stayed beside their successors, both would be centroids of the next grouping.
            self._output.flush()
        for episode_id, (subject_id, score) in zip(
            ids, self._subjects.assign(vectors), strict=False
        ):
            if self._sent.get(episode_id) != subject_id:
                record = {"episode_id": episode_id, "topic_id": subject_id, "score": score}
                self._output.send(
                    EPISODE_SUBJECTS.name, {**record, "model": self._model}, episode_id
                )
                self._sent[episode_id] = subject_id
        for subject in self._subjects.all():
            if regrouped or self._sizes.get(subject.subject_id) != subject.size:
                self._send_subject(subject)

    def _send_subject(self, subject: Subject) -> None:
        record = {
            "topic_id": subject.subject_id,
            "label": subject.label,
            "size": subject.size,
            "centroid": vector_bytes(subject.centroid),
            "model": self._model,
        }
        self._output.send(SUBJECTS.name, record, subject.subject_id)
        self._sizes[subject.subject_id] = subject.size
