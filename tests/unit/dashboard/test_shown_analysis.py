"""What the dashboard asks of what was worked out from transcripts, against real Delta tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from dashboard import analysis, history
from dashboard.queries import Types
from streams.transcripts.core.analysis.record import analyse

NAMED = pl.Struct({"speaker": pl.String, "share": pl.Float64})
KEYWORD = pl.Struct({"phrase": pl.String, "score": pl.Float64, "occurrences": pl.Int32})
SPONSOR = pl.Struct(
    {
        "start_ms": pl.Int64,
        "end_ms": pl.Int64,
        "score": pl.Float64,
        "brand": pl.String,
        "evidence": pl.List(pl.String),
    }
)
SIMILAR = pl.Struct({"episode_id": pl.String, "similarity": pl.Float64})
TABLES: dict[str, Types] = {
    "episode_analysis": {
        "episode_id": pl.String,
        "language": pl.String,
        "words": pl.Int32,
        "speech_ms": pl.Int64,
        "speaking_rate_wpm": pl.Float64,
        "speaker_share_of": pl.String,
        "speakers": pl.List(NAMED),
        "readability": pl.Float64,
        "keywords": pl.List(KEYWORD),
        "sponsors": pl.List(SPONSOR),
        "text_hash": pl.String,
    },
    "episode_topics": {"episode_id": pl.String, "topic_id": pl.String, "score": pl.Float32},
    "topics": {"topic_id": pl.String, "label": pl.String, "size": pl.Int32},
    "episode_duplicates": {
        "episode_id": pl.String,
        "duplicate_of": pl.String,
        "similar": pl.List(SIMILAR),
    },
}
IDS = {"episode_id": "demo:1", "topic_id": "t1"}
SAID = (
    "Brought to you by Understory. Moss grows on stone walls, and stone walls keep their moss. "
    "Use code MOSS at the checkout. "
)


def put(root: Path, table: str, *rows: dict[str, Any]) -> None:
    """Append rows to a table of the declared columns; without rows, leave it empty."""
    frame = pl.DataFrame(list(rows), schema=TABLES[table])
    write_deltalake(str(root / table), frame.to_arrow(), mode="append")


def opened(root: Path) -> history.History:
    return history.open_history(str(root), analysis.TABLES)


def transcript(text: str, segments: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "episode_id": "demo:1",
        "status": "ok",
        "language": "en",
        "text": text,
        "segments": segments or [],
    }


def analysed(record: dict[str, Any]) -> dict[str, Any]:
    """The row of a transcript, as write_delta keeps it."""
    found = analyse(record)
    assert found is not None
    return {name: found[name] for name in TABLES["episode_analysis"]}


def test_tables_not_written_yet_say_nothing(tmp_path: Path) -> None:
    found = analysis.found_for(opened(tmp_path), "demo:1")
    assert (found.analysis, found.topic, len(found.similar)) == (None, None, 0)
    assert analysis.topic_names(analysis.topics(opened(tmp_path))) == {}


def test_tables_without_rows_say_nothing(tmp_path: Path) -> None:
    for table in TABLES:
        put(tmp_path, table)
    found = analysis.found_for(opened(tmp_path), "demo:1")
    assert (found.analysis, found.topic, len(found.similar)) == (None, None, 0)
    assert len(analysis.topics(opened(tmp_path))) == 0


@pytest.mark.parametrize("table", TABLES)
def test_each_table_may_be_the_only_one(tmp_path: Path, table: str) -> None:
    put(tmp_path, table, dict.fromkeys(TABLES[table]) | IDS)
    analysis.found_for(opened(tmp_path), "demo:1")
    analysis.topics(opened(tmp_path))


def test_what_the_stage_works_out_is_what_is_shown(tmp_path: Path) -> None:
    segments = [
        {"start_ms": 60_000 * n, "end_ms": 60_000 * n + 45_000, "speaker": name, "text": SAID * 2}
        for n, name in enumerate(["Ana", "Ben", "Ana"])
    ]
    text = " ".join(str(segment["text"]) for segment in segments)
    put(tmp_path, "episode_analysis", analysed(transcript(text, segments)))
    row = analysis.found_for(opened(tmp_path), "demo:1").analysis
    assert row is not None
    assert row["speech_ms"] == 135_000
    assert row["speaking_rate_wpm"] == pytest.approx(row["words"] / 2.25)
    assert "stone walls" in [keyword["phrase"] for keyword in row["keywords"]]
    assert analysis.speaker_shares(row).rows() == [
        ("1. Ana", pytest.approx(2 / 3)),
        ("2. Ben", pytest.approx(1 / 3)),
    ]
    first = analysis.sponsor_guesses(row).row(0, named=True)
    assert (first["start"], first["brand"]) == ("0:00", "Understory")
    assert first["end"] in ("0:45", "1:45", "2:45")
    assert {"Brought to you by", "Use code"} <= set(first["evidence"])


def test_what_is_not_known_is_null_and_not_a_number(tmp_path: Path) -> None:
    put(tmp_path, "episode_analysis", analysed(transcript("苔は石の上に育つ。" * 40)))
    row = analysis.found_for(opened(tmp_path), "demo:1").analysis
    assert row is not None
    assert [row[n] for n in ("words", "speech_ms", "speaking_rate_wpm", "readability")] == [
        None
    ] * 4
    assert len(analysis.speaker_shares(row)) == len(analysis.sponsor_guesses(row)) == 0


def test_many_speakers_are_added_up_and_so_is_what_nobody_said(tmp_path: Path) -> None:
    speakers = [{"speaker": f"S{n}", "share": 0.09} for n in range(10)]
    shares = analysis.speaker_shares({"speakers": speakers})
    assert shares["label"].to_list() == [
        *(f"{n + 1}. S{n}" for n in range(8)),
        "2 more",
        "without a name",
    ]
    assert shares["share"].to_list()[-2:] == [pytest.approx(0.18), pytest.approx(0.1)]
    assert shares["share"].sum() == pytest.approx(1)


def test_a_topic_has_its_label_and_the_episodes_in_it(tmp_path: Path) -> None:
    put(
        tmp_path,
        "episode_topics",
        {"episode_id": "demo:1", "topic_id": "t1", "score": 0.75},
        {"episode_id": "demo:2", "topic_id": "t1", "score": 0.5},
        {"episode_id": "demo:3", "topic_id": "t2", "score": 0.5},
        {"episode_id": "demo:4", "topic_id": "t3", "score": 0.5},
        {"episode_id": "demo:5", "topic_id": "lost", "score": 0.5},
    )
    put(
        tmp_path,
        "topics",
        {"topic_id": "gone", "label": "nobody has it", "size": 9},
        {"topic_id": "t1", "label": "moss, stone walls", "size": 7},
        {"topic_id": "t2", "label": "", "size": 1},
        {"topic_id": "t3", "label": None, "size": 1},
    )
    asked = opened(tmp_path)
    assert analysis.found_for(asked, "demo:1").topic == {
        "topic_id": "t1",
        "label": "moss, stone walls",
        "episodes": 2,
    }
    assert analysis.found_for(asked, "demo:5").topic is None
    assert analysis.topic_names(analysis.topics(asked)) == {
        "t1": "moss, stone walls (2)",
        "t2": "no phrases in common (1)",
        "t3": "no phrases in common (1) · t3",
    }


def test_near_duplicates_say_which_came_first(tmp_path: Path) -> None:
    near = [
        {"episode_id": "demo:2", "similarity": 0.9},
        {"episode_id": "demo:3", "similarity": 0.7},
    ]
    put(
        tmp_path,
        "episode_duplicates",
        {"episode_id": "demo:1", "duplicate_of": "demo:3", "similar": near},
        {"episode_id": "demo:4", "duplicate_of": None, "similar": near},
        {"episode_id": "demo:5", "duplicate_of": "demo:9", "similar": near},
        {"episode_id": "demo:6", "duplicate_of": None, "similar": []},
    )
    asked = opened(tmp_path)
    assert analysis.found_for(asked, "demo:1").similar.rows() == [
        ("demo:2", 0.9, False),
        ("demo:3", 0.7, True),
    ]
    assert analysis.found_for(asked, "demo:4").similar["first"].to_list() == [False, False]
    assert analysis.found_for(asked, "demo:5").similar.rows()[-1] == ("demo:9", None, True)
    assert analysis.found_for(asked, "demo:6").similar.is_empty()


@pytest.mark.parametrize(
    ("ease", "word"),
    [
        (-20.0, "very hard"),
        (29.9, "very hard"),
        (30.0, "hard"),
        (65.0, "plain"),
        (121.0, "very easy"),
    ],
)
def test_reading_ease_in_words(ease: float, word: str) -> None:
    assert analysis.reading(ease) == word


def test_places_on_the_clock() -> None:
    assert [analysis.clock(ms) for ms in (0, 65_999, 3_605_000)] == ["0:00", "1:05", "1:00:05"]


def test_chips_show_phrases_as_they_are() -> None:
    assert analysis.chips(["moss", "stone walls"]) == "` moss ` ` stone walls `"
    assert analysis.chips(["a`b``c", "\n\n# no heading"]) == "``` a`b``c ``` ` # no heading `"
    assert analysis.chips(["", " \t"]) == ""
    assert len(analysis.chips(["x" * 1000])) == analysis.LONGEST_CHIP + 4


@given(st.lists(st.text(st.sampled_from("`ab[]()<>*_#:$ \n\\"), max_size=12), max_size=4))
def test_no_phrase_ends_its_code_span(phrases: list[str]) -> None:
    written = analysis.chips(phrases)
    # CommonMark 6.1: a code span begins with a run of backticks and ends with the next run as long
    spans = re.findall(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", written)
    assert [" ".join(body.split()) for _, body in spans] == [
        " ".join(phrase.split()) for phrase in phrases if phrase.strip()
    ]
    assert "\n" not in written
