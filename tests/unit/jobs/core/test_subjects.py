"""Subjects of vectors made around known directions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.subjects import FEWEST, Subjects, labels

THEMES = ("bread", "chess", "tides", "kites")


def around(theme: int, count: int, seed: int = 0) -> np.ndarray:
    dice = np.random.default_rng([theme, seed])
    centre = np.zeros(32)
    centre[theme] = 1
    vectors = centre + dice.normal(scale=0.08, size=(count, 32))
    found: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        np.float32
    )
    return found


def catalogue(*sizes: int, seed: int = 0) -> tuple[np.ndarray, list[list[tuple[str, int]]]]:
    vectors = np.concatenate([around(n, size, seed) for n, size in enumerate(sizes) if size])
    phrases = [
        [("good question", 3), (THEMES[n], 2)] for n, size in enumerate(sizes) for _ in range(size)
    ]
    return vectors, phrases


def test_themes_become_subjects_labelled_by_what_only_they_say() -> None:
    subjects = Subjects()
    subjects.regroup(*catalogue(15, 15, 15))
    found = subjects.all()
    assert sum(subject.size for subject in found) == 45
    for subject in found:
        theme = int(np.argmax(subject.centroid))
        assert subject.centroid[theme] > 0.9
        assert subject.label.split(", ")[0] == THEMES[theme]


def test_a_subject_keeps_its_id_as_episodes_and_a_new_theme_arrive() -> None:
    subjects = Subjects()
    subjects.regroup(*catalogue(15, 15, 15))
    before = {t.subject_id: int(np.argmax(t.centroid)) for t in subjects.all()}
    restarted = Subjects(subjects.all())
    gone = restarted.regroup(*catalogue(20, 25, 18, 20, seed=1))
    after = {t.subject_id: int(np.argmax(t.centroid)) for t in restarted.all()}
    assert not gone
    assert {name: after[name] for name in before} == before
    assert set(after.values()) == {0, 1, 2, 3}


def test_a_subject_whose_episodes_are_others_now_is_another_subject() -> None:
    subjects = Subjects()
    subjects.regroup(*catalogue(40))
    before = {subject.subject_id for subject in subjects.all()}
    gone = subjects.regroup(around(1, 40), [()] * 40)
    assert gone <= before
    now = {subject.subject_id for subject in subjects.all() if subject.centroid[1] > 0.9}
    assert now
    assert not now & before


def test_between_groupings_an_episode_joins_the_nearest_subject() -> None:
    subjects = Subjects()
    assert subjects.assign(around(0, 3)) == []
    assert not subjects.due(FEWEST - 1)
    assert subjects.due(FEWEST)
    vectors, phrases = catalogue(15, 15, 15)
    subjects.regroup(vectors, phrases)
    assert not subjects.due(46)
    assert subjects.due(50)
    more = np.concatenate([vectors, around(2, 1, seed=9)])
    assigned = subjects.assign(more)
    assert assigned[-1][0] in {subject_id for subject_id, _ in assigned[30:45]}
    assert 0.7 < assigned[-1][1] <= 1.0001
    assert sum(subject.size for subject in subjects.all()) == 46


def test_phrases_of_one_label_share_no_word() -> None:
    (label,) = labels(np.zeros(1, np.int64), [[("rye bread", 5), ("bread", 4), ("oven", 1)]], 1)
    assert label == "rye bread, oven"


def test_a_label_has_the_most_telling_phrases_alone() -> None:
    said = [("oven", 1), ("flour", 4), ("crust", 3), ("yeast", 2)]
    assert labels(np.zeros(1, np.int64), [said], 1) == ["flour, crust, yeast"]


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
        subjects = Subjects()
        subjects.regroup(vectors, [()] * len(vectors))
        found.append([subject.subject_id for subject in subjects.all()])
        assert sum(subject.size for subject in subjects.all()) == len(vectors)
        assert all(np.isfinite(subject.centroid).all() for subject in subjects.all())
        assert len(subjects.assign(vectors)) == len(vectors)
    assert found[0] == found[1]
