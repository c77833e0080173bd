"""What is worked out from a transcript, against answers known by construction."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.registry import FixedRegistry
from streams.kafka.wire import Wire
from streams.transcripts.core.analysis.keywords import keyphrases
from streams.transcripts.core.analysis.readability import reading_ease, syllables
from streams.transcripts.core.analysis.record import analyse
from streams.transcripts.core.analysis.speech import speech
from streams.transcripts.core.analysis.sponsors import sponsored
from streams.transcripts.core.analysis.words import is_spaced, primary, stop_words, words_of
from topology.graph import build_graph, declared_subjects

LANGUAGES = ("", "en", "en-US", "de", "fr", "es", "pt_BR", "ja", "xx-", "-", "nb")


def said(*parts: tuple[int | None, int | None, str, str]) -> list[dict[str, Any]]:
    return [
        {"start_ms": start, "end_ms": end, "speaker": speaker, "text": text}
        for start, end, speaker, text in parts
    ]


def transcript(
    text: str, segments: list[dict[str, Any]] | None = None, language: str = "en"
) -> dict[str, Any]:
    return {
        "episode_id": "pi:1",
        "status": "ok",
        "language": language,
        "text": text,
        "segments": segments or [],
    }


def test_words_and_languages() -> None:
    words = words_of("Don't panic — it's Jean-Luc, №5!")
    assert words == ["don't", "panic", "it's", "jean-luc", "5"]
    assert [primary(tag) for tag in ("pt-BR", "EN", "zh_Hant", "")] == ["pt", "en", "zh", ""]
    assert "don\u2019t" in stop_words("en-GB")
    assert "ikke" in stop_words("nb")
    assert not stop_words("tlh")
    assert not is_spaced("今日はとても良い天気です。散歩に行きましょう。")
    assert is_spaced("She said 今日は to everybody in the room.")


def test_a_phrase_beats_its_parts_and_stop_words_part_phrases() -> None:
    text = "The kernel panic was a surprise. " * 5 + "A kernel of truth, and of corn. Corn! Corn?"
    found = {k.phrase: k.occurrences for k in keyphrases(text, "en")}
    assert next(iter(found)) == "kernel panic"
    assert found == {"kernel panic": 5, "surprise": 5, "corn": 3}


def test_the_lists_of_another_language_are_used() -> None:
    text = "Die künstliche Intelligenz ist da. Und die künstliche Intelligenz. " * 2
    (first, *_) = keyphrases(text, "de-AT")
    assert first.phrase == "künstliche intelligenz"
    assert keyphrases(text, "") == []


def test_the_rate_counts_time_once_where_voices_overlap() -> None:
    segments = said(
        (0, 30_000, "A", "word " * 60),
        (20_000, 60_000, "B", "word " * 60),
        (90_000, 120_000, "A", "word " * 60),
    )
    found = speech(segments)
    assert found.speech_ms == 90_000
    assert found.rate_wpm == pytest.approx(120)
    assert found.share_of == "time"
    assert dict(found.shares) == pytest.approx({"A": 0.6, "B": 0.4})


def test_a_segment_without_an_end_lasts_to_the_next_one_but_not_through_a_pause() -> None:
    found = speech(said((0, None, "", "a " * 30), (20_000, None, "", "b"), (200_000, None, "", "")))
    assert found.speech_ms == 20_000
    assert found.rate_wpm is None, "less than half a minute"
    found = speech(said((0, None, "", "a " * 90), (200_000, None, "", "b " * 9)))
    assert found.speech_ms == 30_000
    assert found.rate_wpm == pytest.approx(180)
    assert found.shares == ()


def test_without_times_shares_are_of_words() -> None:
    found = speech(said((None, None, "A", "one two three"), (None, None, "", "four")))
    assert found.speech_ms is None
    assert found.rate_wpm is None
    assert (found.share_of, found.shares) == ("words", (("A", 0.75),))


def test_times_that_cannot_be_give_no_rate() -> None:
    assert speech(said((0, 30_000, "", "word " * 400))).rate_wpm is None


@pytest.mark.parametrize(
    ("word", "language", "number"),
    [
        ("cat", "en", 1),
        ("make", "en", 1),
        ("table", "en", 2),
        ("walked", "en", 1),
        ("wanted", "en", 2),
        ("readability", "en", 5),
        ("lesbarkeit", "de", 3),
        ("porte", "fr", 1),
        ("молоко", "ru", 3),
        ("xyz", "ru", 1),
    ],
)
def test_syllables(word: str, language: str, number: int) -> None:
    assert syllables(word, language) == number


def test_readability_is_flesch() -> None:
    easy = "The cat sat on the mat. " * 30
    assert reading_ease(easy, "en") == pytest.approx(206.835 - 1.015 * 6 - 84.6, abs=0.06)
    hard = "Institutional accountability necessitates organisational transparency. " * 30
    assert (reading_ease(hard, "en") or 0) < 0
    assert reading_ease(easy, "fi") is None
    assert reading_ease("Too short.", "en") is None
    assert reading_ease("no full stops at all " * 50, "en") is None


FILLER = "We talked about the garden and about what the winter had done to the roses there. " * 12


def test_an_advertisement_is_found_with_its_times_brand_and_evidence() -> None:
    segments = said(
        (0, 60_000, "Host", FILLER),
        (60_000, 65_000, "Host", "This episode is brought to"),
        (65_000, 80_000, "Host", "you by Acme Mattress. Go to acme dot com slash garden"),
        (80_000, 90_000, "Host", "and use code ROSES for twenty percent off, 20 percent off."),
        (90_000, 150_000, "Host", FILLER),
    )
    (found,) = sponsored(segments, "", "en-GB")
    assert (found.start_ms, found.end_ms) == (60_000, 90_000)
    assert found.brand == "Acme Mattress"
    assert 0.9 < found.score < 1
    assert found.evidence[0] == "brought to you by"
    assert "use code" in found.evidence


def test_far_apart_there_are_two_and_a_weak_cue_alone_is_none() -> None:
    advert = "A word from our sponsors. "
    (first, second) = sponsored([], advert + FILLER + advert, "en")
    assert (first.start_ms, first.end_ms, first.brand) == (None, None, "")
    assert second.score == first.score == 0.7
    assert not sponsored([], "You can sign up today. " + FILLER, "en")


@pytest.mark.parametrize(
    ("text", "language", "brands"),
    [
        (
            "Diese Folge wird präsentiert von Beispiel. Mit dem Code ROSEN.",
            "de",
            ["Beispiel"],
        ),
        (
            "Cet épisode est sponsorisé par Exemple. Avec le code ROSE.",
            "fr",
            ["Exemple"],
        ),
        ("Este episodio está patrocinado por Ejemplo, con el código ROSA.", "es", ["Ejemplo"]),
        ("Este episódio é oferecido por Exemplo. Use o cupom ROSA.", "pt-BR", ["Exemplo"]),
        ("Tämän jakson tarjoaa Esimerkki.", "fi", []),
    ],
)
def test_other_languages_have_cues_of_their_own(
    text: str, language: str, brands: list[str]
) -> None:
    found = sponsored([], text, language)
    assert [s.brand for s in found] == brands


GRAPH = build_graph(2)
WIRE = Wire(GRAPH, FixedRegistry(declared_subjects(GRAPH)))
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            ["brought to you by", "use code", "Acme.", "今日は", "don't", "a", "\n", "—"]
        ),
        max_size=80,
    ).map(" ".join),
)
TIMES = st.one_of(st.none(), st.integers(0, 2**53))
SEGMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "start_ms": TIMES,
            "end_ms": TIMES,
            "speaker": st.sampled_from(["", "A", "B"]),
            "text": TEXTS,
        }
    ),
    max_size=8,
)


@given(TEXTS, SEGMENTS, st.sampled_from(LANGUAGES))
@settings(max_examples=60, deadline=None)
def test_any_transcript_gives_a_record_that_fits_the_topic(
    text: str, segments: list[dict[str, Any]], language: str
) -> None:
    record = analyse(transcript(text, segments, language))
    assert (record is None) == (not text.strip())
    if record is None:
        return
    assert record["speaking_rate_wpm"] is None or 0 <= record["speaking_rate_wpm"] <= 600
    assert sum(entry["share"] for entry in record["speakers"]) <= 1 + 1e-9
    assert len(record["fingerprint"]) in (0, 128)
    for stretch in record["sponsors"]:
        assert 0.5 <= stretch["score"] < 1
        assert None in (stretch["start_ms"], stretch["end_ms"]) or (
            stretch["start_ms"] <= stretch["end_ms"]
        )
    assert record == analyse(transcript(text, segments, language))
    encodable = text.encode("utf-8", "ignore").decode() == text
    if encodable:
        value = WIRE.encode("episode-analysis", record)
        assert WIRE.decode("episode-analysis", value)["keywords"] == record["keywords"]


@pytest.mark.parametrize("status", ["none", "refused", "failed"])
def test_without_a_transcript_there_is_nothing(status: str) -> None:
    assert analyse(transcript("some words") | {"status": status}) is None


@pytest.mark.no_cover  # measuring branches takes time, and this is timed
@pytest.mark.parametrize(
    "text",
    [
        "brought to you by use code 20 percent off dot com slash " * 18_000,
        "a-" * 500_000,
        "".join(f"w{i % 9999} x{i} " for i in range(80_000)),
        "天" * 1_000_000,
        "sponsor is " + "A " * 500_000,
    ],
    ids=["cues", "hyphens", "distinct", "unspaced", "names"],
)
def test_a_megabyte_takes_a_bounded_time(text: str) -> None:
    begun = time.process_time()
    analyse(transcript(text))
    assert time.process_time() - begun < 10
