"""The `episode_analysis` record of a transcript."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from streams.transcripts.core.analysis.fingerprint import fingerprint
from streams.transcripts.core.analysis.keywords import keyphrases
from streams.transcripts.core.analysis.readability import reading_ease
from streams.transcripts.core.analysis.speech import speech
from streams.transcripts.core.analysis.sponsors import sponsored
from streams.transcripts.core.analysis.words import is_spaced, words_of


def analyse(transcript: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is worked out from an `episode-transcripts` record; None where there is no text."""
    text, language = transcript["text"], transcript["language"]
    if transcript["status"] != "ok" or not text.strip():
        return None
    segments = transcript["segments"]
    measured = speech(segments)
    return {
        "episode_id": transcript["episode_id"],
        "language": language,
        "words": len(words_of(text)) if is_spaced(text) else None,
        "speech_ms": measured.speech_ms,
        "speaking_rate_wpm": measured.rate_wpm,
        "speaker_share_of": measured.share_of,
        "speakers": [{"speaker": name, "share": share} for name, share in measured.shares],
        "readability": reading_ease(text, language),
        "keywords": [
            {"phrase": found.phrase, "score": found.score, "occurrences": found.occurrences}
            for found in keyphrases(text, language)
        ],
        "sponsors": [
            {
                "start_ms": stretch.start_ms,
                "end_ms": stretch.end_ms,
                "score": stretch.score,
                "brand": stretch.brand,
                "evidence": list(stretch.evidence),
            }
            for stretch in sponsored(segments, text, language)
        ],
        "fingerprint": fingerprint(text),
        "text_hash": hashlib.sha256(text.encode(errors="replace")).hexdigest(),
    }
