"""Nothing of a transcript is lost or repeated by cutting it, and stretches are about a minute."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.core.chunks import LONGEST_MS, MOST_WORDS, SHORTEST_MS, chunks

texts = st.lists(st.sampled_from(["one", "two", "three"]), max_size=1500).map(" ".join)


def segment(start_ms: int | None, end_ms: int | None, text: str) -> dict[str, Any]:
    return {"start_ms": start_ms, "end_ms": end_ms, "speaker": "", "text": text}


@given(texts)
def test_words_are_all_there_in_even_stretches(text: Any) -> None:
    found = chunks({"text": text, "segments": []})
    assert " ".join(found).split() == text.split()
    lengths = [len(part.split()) for part in found]
    assert all(0 < length <= MOST_WORDS for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


@given(st.lists(st.tuples(st.integers(1, 400_000), st.booleans(), texts), min_size=1, max_size=30))
def test_timed_segments_keep_every_word_in_order(parts: Any) -> None:
    at, segments = 0, []
    for length, ends, text in parts:
        segments.append(segment(at, at + length if ends else None, text))
        at += length
    found = chunks({"text": " ".join(text for *_, text in parts), "segments": segments})
    assert " ".join(found).split() == " ".join(text for *_, text in parts).split()
    assert all(found)


def test_short_segments_make_stretches_of_a_minute() -> None:
    segments = [segment(n * 7_000, (n + 1) * 7_000, f"word{n}") for n in range(90)]
    found = chunks({"text": "", "segments": segments})
    lasting = [len(part.split()) * 7_000 for part in found]
    assert all(SHORTEST_MS <= length <= LONGEST_MS for length in lasting[:-1])
    assert len(found) == 10


def test_segments_without_times_are_cut_by_words() -> None:
    text = "word " * 400
    assert len(chunks({"text": text, "segments": [segment(None, None, text)]})) == 3


def test_a_title_is_one_stretch_and_silence_none() -> None:
    assert chunks({"text": "Toy Story (1995). Animation, Children's, Comedy"}) == [
        "Toy Story (1995). Animation, Children's, Comedy"
    ]
    assert chunks({"text": " \n", "segments": []}) == []
