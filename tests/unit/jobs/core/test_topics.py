"""Topics of vectors made around known directions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.topics import FEWEST, Topics, labels

SUBJECTS = ("bread", "chess", "tides", "kites")


def around(subject: int, count: int, seed: int = 0) -> np.ndarray:
    dice = np.random.default_rng([subject, seed])
    centre = np.zeros(32)
    centre[subject] = 1
    vectors = centre + dice.normal(scale=0.08, size=(count, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def catalogue(*sizes: int, seed: int = 0) -> tuple[np.ndarray, list[list[tuple[str, int]]]]:
    vectors = np.concatenate([around(n, size, seed) for n, size in enumerate(sizes) if size])
    phrases = [
        [("good question", 3), (SUBJECTS[n], 2)]
        for n, size in enumerate(sizes)
        for _ in range(size)
    ]
    return vectors, phrases


def test_subjects_become_topics_labelled_by_what_only_they_say() -> None:
    topics = Topics()
    topics.regroup(*catalogue(15, 15, 15))
    found = topics.all()
    assert sum(topic.size for topic in found) == 45
    for topic in found:
        subject = int(np.argmax(topic.centroid))
        assert topic.centroid[subject] > 0.9
        assert topic.label.split(", ")[0] == SUBJECTS[subject]


def test_a_topic_keeps_its_id_as_episodes_and_a_new_subject_arrive() -> None:
    topics = Topics()
    topics.regroup(*catalogue(15, 15, 15))
    before = {t.topic_id: int(np.argmax(t.centroid)) for t in topics.all()}
    restarted = Topics(topics.all())
    gone = restarted.regroup(*catalogue(20, 25, 18, 20, seed=1))
    after = {t.topic_id: int(np.argmax(t.centroid)) for t in restarted.all()}
    assert not gone
    assert {name: after[name] for name in before} == before
    assert set(after.values()) == {0, 1, 2, 3}


def test_a_topic_whose_episodes_are_others_now_is_another_topic() -> None:
    topics = Topics()
    topics.regroup(*catalogue(40))
    before = {topic.topic_id for topic in topics.all()}
    gone = topics.regroup(around(1, 40), [()] * 40)
    assert gone <= before
    now = {topic.topic_id for topic in topics.all() if topic.centroid[1] > 0.9}
    assert now
    assert not now & before


def test_between_groupings_an_episode_joins_the_nearest_topic() -> None:
    topics = Topics()
    assert topics.assign(around(0, 3)) == []
    assert not topics.due(FEWEST - 1)
    assert topics.due(FEWEST)
    vectors, phrases = catalogue(15, 15, 15)
    topics.regroup(vectors, phrases)
    assert not topics.due(46)
    assert topics.due(50)
    more = np.concatenate([vectors, around(2, 1, seed=9)])
    assigned = topics.assign(more)
    assert assigned[-1][0] in {topic_id for topic_id, _ in assigned[30:45]}
    assert 0.7 < assigned[-1][1] <= 1.0001
    assert sum(topic.size for topic in topics.all()) == 46


def test_phrases_of_one_label_share_no_word() -> None:
    (label,) = labels(np.zeros(1, np.int64), [[("rye bread", 5), ("bread", 4), ("oven", 1)]], 1)
    assert label == "rye bread, oven"


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_any_vectors_can_be_grouped_and_the_same_ones_alike(
    count: int, distinct: int, zeros: int
) -> None:
    base = np.concatenate([around(n, 1) for n in range(distinct)])
    vectors = base[np.arange(count) % distinct]
    vectors = np.concatenate([vectors, np.zeros((zeros, 32), np.float32)])
    found = []
    for _ in range(2):
        topics = Topics()
        topics.regroup(vectors, [()] * len(vectors))
        found.append([topic.topic_id for topic in topics.all()])
        assert sum(topic.size for topic in topics.all()) == len(vectors)
        assert all(np.isfinite(topic.centroid).all() for topic in topics.all())
        assert len(topics.assign(vectors)) == len(vectors)
    assert found[0] == found[1]
