"""What Whisper is fed; its model is not needed for that."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest

from streams.transcripts.asr import SAMPLE_RATE, AudioError, WhisperTranscriber, read_audio


def write_tone(path: Path, seconds: float, rate: int = 44_100) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        values = (int(9000 * math.sin(n / 30)) for n in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<hh", value, value) for value in values))
    return path


def test_audio_comes_as_one_channel_at_the_models_rate(tmp_path: Path) -> None:
    audio = read_audio(write_tone(tmp_path / "a.wav", 1.5), 60)
    assert audio.dtype == np.float32
    assert abs(len(audio) / SAMPLE_RATE - 1.5) < 0.05
    assert 0.1 < float(np.abs(audio).max()) < 0.5


def test_reading_stops_at_the_length_allowed(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="longer than"):
        read_audio(write_tone(tmp_path / "a.wav", 3), 2)


@pytest.mark.parametrize("body", [b"", b"ID3", b"<html></html>", b"RIFF\0\0\0\0WAVE", b"\0" * 5000])
def test_what_is_no_audio_is_told(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(body)
    with pytest.raises(AudioError):
        read_audio(tmp_path / "a.mp3", 60)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{inside}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{inside}'\n",
    ],
)
@pytest.mark.parametrize("suffix", ["m3u8", "mp3", "txt"])
def test_a_file_that_names_other_files_opens_none_of_them(
    tmp_path: Path, playlist: str, suffix: str
) -> None:
    inside = write_tone(tmp_path / "inside.wav", 1)
    (tmp_path / f"a.{suffix}").write_text(playlist.format(inside=inside))
    with pytest.raises(AudioError):
        read_audio(tmp_path / f"a.{suffix}", 60)


def test_the_model_is_given_audio_and_the_language_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str | None]] = []

    class Part:
        start, end, text = 0.0, 1.5, " Hello  there. "

    class Info:
        language = "de"

    class Model:
        supported_languages = ("de", "en")

        def __init__(self, name: str, **options: object) -> None:
            assert (name, options["cpu_threads"]) == ("tiny", 2)

        def transcribe(
            self, audio: np.ndarray, *, language: str | None, vad_filter: bool
        ) -> tuple[Any, ...]:
            asked.append((len(audio), language))
            return iter([Part()]), Info()

    monkeypatch.setattr(faster_whisper, "WhisperModel", Model)
    transcriber = WhisperTranscriber("tiny", 2)
    transcriber.load()
    path = write_tone(tmp_path / "a.wav", 1)
    heard = transcriber.transcribe(path, "de-AT", 60)
    transcriber.transcribe(path, "tlh", 60)
    assert [language for _, language in asked] == ["de", None]
    assert heard.language == "de"
    assert [(s.start_ms, s.end_ms, s.text) for s in heard.segments] == [(0, 1500, "Hello there.")]
