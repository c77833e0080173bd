"""What is said of subjects, by a process and by the one that follows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.subject_output import SubjectOutput


class Log:
    """Keeps what is sent, as a compacted topic does."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Any]] = {"topics": {}, "episode-topics": {}}
        self.sent = 0

    def send(self, topic: str, record: dict[str, Any] | None, key: str) -> None:
        self.sent += 1
        self.topics[topic].pop(key, None)
        if record is not None:
            self.topics[topic][key] = record

    def flush(self) -> None:
        """All of it is there already."""


def vectors(*counts: int) -> np.ndarray:
    dice = np.random.default_rng(4)
    rows = np.repeat(np.eye(len(counts), 16), counts, axis=0)
    rows = rows + dice.normal(scale=0.05, size=rows.shape)
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def ids(count: int) -> list[str]:
    return [f"pi:{n}" for n in range(count)]


def said(output: SubjectOutput, count: int) -> None:
    for n in range(count):
        text = ("Sourdough bread. " if n % 2 else "Chess opening. ") * 4
        output.read({"episode_id": f"pi:{n}", "text": text, "language": "en"})


def test_only_changes_are_sent_and_a_successor_goes_on_where_it_stood() -> None:
    log = Log()
    output = SubjectOutput(log, "m")  # type: ignore[arg-type]
    said(output, 40)
    output.send(ids(10), vectors(10))
    assert log.sent == 0, "too few for subjects"
    all_vectors = vectors(20, 20)
    output.send(ids(40), all_vectors)
    assert set(log.topics["episode-topics"]) == set(ids(40))
    named = {record["label"] for record in log.topics["topics"].values()}
    assert any("sourdough bread" in label for label in named)
    before, sent = {key: dict(topics) for key, topics in log.topics.items()}, log.sent
    output.send(ids(40), all_vectors)
    assert log.sent == sent

    successor = SubjectOutput(log, "m")  # type: ignore[arg-type]
    for topic_id, record in log.topics["topics"].items():
        successor.restore(topic_id, dict(record))
    successor.restore("of-another-model", dict(record) | {"model": "x"})
    successor.restore("gone", dict(record))
    successor.restore("gone", None)
    successor.send(ids(40), all_vectors)
    assert {k: set(v) for k, v in log.topics.items()} == {k: set(v) for k, v in before.items()}
    for key, record in before["episode-topics"].items():
        assert log.topics["episode-topics"][key]["topic_id"] == record["topic_id"]
