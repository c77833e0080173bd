"""Fingerprints and who resembles whom, against texts made to be alike or not."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.transcripts.core.analysis.duplicates import Entry, Fingerprints
from streams.transcripts.core.analysis.fingerprint import fingerprint, similarities

WORDS = [
    f"{a}{b}" for a in ("lo", "mi", "ta", "re", "su", "ko") for b in ("ba", "ner", "lim", "do")
]


def text(seed: object, words: int = 600) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=words))


def similarity(one: str, other: str) -> float:
    rows = [np.frombuffer(fingerprint(t), dtype=np.uint8) for t in (one, other)]
    return float(similarities(rows[0], rows[1][None])[0])


def test_the_estimate_is_near_the_truth() -> None:
    for words in (100, 300, 500):
        shared = text("shared", words)
        one, other = (f"{shared} {text(name, 600 - words)}" for name in "ab")
        parts = [
            {tuple(t.split()[i : i + 3]) for i in range(len(t.split()) - 2)} for t in (one, other)
        ]
        truth = len(parts[0] & parts[1]) / len(parts[0] | parts[1])
        assert abs(similarity(one, other) - truth) < 0.13  # three standard errors


def test_case_and_punctuation_do_not_matter_but_a_few_words_are_no_fingerprint() -> None:
    original = text(1)
    assert fingerprint(original.upper().replace(" ", ",\n")) == fingerprint(original)
    assert fingerprint("Only a few words.") == b""
    assert len(
        fingerprint("今日はとても良い天気です散歩に行きましょう" * 3 + "電車で山へ行く" * 9)
    ) in (0, 128)


def index(texts: dict[str, str], **published: int) -> Fingerprints:
    return Fingerprints(
        (name, Entry.new(published.get(name), offset, fingerprint(words)))
        for offset, (name, words) in enumerate(texts.items())
    )


def heard_badly(words: str, share: float, seed: int = 5) -> str:
    dice = random.Random(seed)
    return " ".join("xx" if dice.random() < share else word for word in words.split())


def test_a_second_recognition_and_an_inserted_advertisement_are_the_same_episode() -> None:
    original = text(1, 1000)
    known = index(
        {
            "first": original,
            "again": heard_badly(original, 0.03),
            "with an advertisement": f"{text(7, 120)} {original}",
            "another": text(2, 1000),
        }
    )
    report = known.report("again")
    assert report is not None
    assert report["duplicate_of"] == "first"
    assert {s["episode_id"] for s in report["similar"]} == {"first", "with an advertisement"}
    another = known.report("another")
    assert another == {"episode_id": "another", "duplicate_of": None, "similar": []}
    assert known.report("unheard of") is None
    first = known.report("first")
    assert first is not None
    assert first["duplicate_of"] is None


def test_an_intro_and_outro_in_common_make_no_duplicate() -> None:
    intro, outro = text("intro", 200), text("outro", 200)
    known = index({str(n): f"{intro} {text(n, 400)} {outro}" for n in range(10)})
    assert [known.similar(str(n)) for n in range(10)] == [[]] * 10


def test_the_first_published_is_the_original_and_unknown_times_come_last() -> None:
    known = index({"a": text(1), "b": text(1), "c": text(1), "d": text(1)}, b=2000, c=1000)
    assert [(known.report(name) or {})["duplicate_of"] for name in "abcd"] == ["c", "c", None, "c"]


def test_entries_survive_their_encoding() -> None:
    for entry in (Entry.new(None, 3, b"x" * 128), Entry.new(-5, 2**40, b"y" * 128)):
        assert Entry.decode(entry.encode()) == entry


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, 0, 1, 2])), max_size=25
)
FINGERPRINTS = [fingerprint(t) for t in (text(1), heard_badly(text(1), 0.03), text(2))]


@given(STEPS)
@settings(deadline=None)
def test_any_history_leaves_what_its_last_state_gives_and_likeness_is_mutual(
    steps: list[tuple[str, int | None]],
) -> None:
    known = Fingerprints()
    final: dict[str, Entry] = {}
    for offset, (name, which) in enumerate(steps):
        if which is None:
            known.drop(name)
            final.pop(name, None)
        else:
            final[name] = Entry.new(None, offset, FINGERPRINTS[which])
            known.put(name, final[name])
    anew = Fingerprints(final.items())
    likeness = {name: dict(known.similar(name)) for name in "abcdefgh"}
    for name in "abcdefgh":
        assert known.report(name) == anew.report(name)
        for other, value in likeness[name].items():
            assert likeness[other][name] == value
