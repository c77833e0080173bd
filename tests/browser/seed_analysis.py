"""What the stages work out from transcripts, and what strangers could make them say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from deltalake import write_deltalake

from dashboard.queries import Types
from streams.transcripts.core.analysis.record import analyse

RICH, HOSTILE_ONE, UNSPACED, UNANALYSED = 8, 6, 7, 9
"""Places of episodes: with everything, with hostile text, with nulls, and without an analysis."""

SPEAKERS = ("Ines", "Malte", "Ines", "A caller from the harbour office of the northern towns")
TALK = (
    "The tide turns twice a day, and the tide tables of the harbour are never quite right. "
    "Glass frogs keep their secret under green leaves. The tide tables come from the moon, "
    "and the moon is late by fifty minutes a day. "
)
ADVERTISEMENT = (
    "This episode is brought to you by Saltwell Lamps. Go to saltwell.com/tides and use code TIDES "
    "for 20 percent off your first order. "
)
STRUCTS: Types = {
    "speakers": pl.List(pl.Struct({"speaker": pl.String, "share": pl.Float64})),
    "keywords": pl.List(
        pl.Struct({"phrase": pl.String, "score": pl.Float64, "occurrences": pl.Int32})
    ),
    "sponsors": pl.List(
        pl.Struct(
            {
                "start_ms": pl.Int64,
                "end_ms": pl.Int64,
                "score": pl.Float64,
                "brand": pl.String,
                "evidence": pl.List(pl.String),
            }
        )
    ),
}


def worked_out(episode_id: str, text: str, language: str, turns: tuple[str, ...]) -> dict[str, Any]:
    """The analysis of a transcript in which the speakers take turns of 40 s."""
    segments: list[dict[str, Any]] = [
        {
            "start_ms": 45_000 * place,
            "end_ms": 45_000 * place + 40_000,
            "speaker": speaker,
            "text": (ADVERTISEMENT if place == 2 else "") + text,
        }
        for place, speaker in enumerate(turns)
    ]
    said = " ".join(segment["text"] for segment in segments) if segments else text
    found = analyse(
        {
            "episode_id": episode_id,
            "status": "ok",
            "language": language,
            "text": said,
            "segments": segments,
        }
    )
    assert found is not None
    del found["fingerprint"]
    return found


def hostile_analysis(episode_id: str, hostile: str) -> dict[str, Any]:
    """An analysis in which every text is hostile."""
    return {
        "episode_id": episode_id,
        "language": hostile,
        "words": 900,
        "speech_ms": 300_000,
        "speaking_rate_wpm": 180.0,
        "speaker_share_of": "time",
        "speakers": [{"speaker": hostile, "share": 0.8}],
        "readability": 12.0,
        "keywords": [
            {"phrase": phrase, "score": 1.0, "occurrences": 2}
            for phrase in (hostile, "` :red[loud] `", "www.example.org", "x" * 200)
        ],
        "sponsors": [
            {
                "start_ms": None,
                "end_ms": None,
                "score": 0.7,
                "brand": hostile,
                "evidence": [hostile, "use code"],
            }
        ],
        "text_hash": "",
    }


def seed_analysis(delta_root: Path, episodes: list[dict[str, Any]], hostile: str) -> None:
    """Write the tables: a topic for each category, and three episodes that are the same."""
    analyses, members = [], []
    for place, episode in enumerate(episodes):
        episode_id = episode["_id"]
        if place % 6 > 3 or place == UNANALYSED:
            continue
        category = episode["categories"][0]
        members.append({"episode_id": episode_id, "topic_id": category, "score": 0.62})
        if place == HOSTILE_ONE:
            members[-1]["topic_id"] = "hostile"
            analyses.append(hostile_analysis(episode_id, hostile))
        elif place == UNSPACED:
            analyses.append(worked_out(episode_id, "潮は一日に二度変わる。" * 40, "ja", ()))
        else:
            turns = SPEAKERS * 4 if place == RICH else ()
            analyses.append(worked_out(episode_id, TALK * 4, "en", turns))
    labels = {episode["categories"][0]: episode["show_title"].lower() for episode in episodes}
    labels = {name: f"{label}, tide tables, glass frogs" for name, label in labels.items()}
    labels["hostile"] = f"{hostile} {'a very long label ' * 20}"
    same = [episodes[place]["_id"] for place in (HOSTILE_ONE, 14)]
    similar = [
        {"episode_id": same[0], "similarity": 0.934},
        {"episode_id": same[1], "similarity": 0.711},
    ]
    tables = {
        "episode_analysis": pl.DataFrame(
            analyses, schema_overrides=STRUCTS, infer_schema_length=None
        ).with_columns(pl.col("words").cast(pl.Int32)),
        "episode_topics": pl.DataFrame(members),
        "topics": pl.DataFrame([{"topic_id": t, "label": label} for t, label in labels.items()]),
        "episode_duplicates": pl.DataFrame(
            [
                {
                    "episode_id": episodes[RICH]["_id"],
                    "duplicate_of": same[1],
                    "similar": similar,
                }
            ]
        ),
    }
    for name, frame in tables.items():
        write_deltalake(str(delta_root / name), frame.to_arrow())
