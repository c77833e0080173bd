"""Turns audio into words: the interface of a transcriber, and the one that runs Whisper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streams.transcripts.core.segments import Segment, segment

SAMPLE_RATE = 16_000
_OPENED = {
    "format_whitelist": "aac,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,wav,w64,aiff,caf",
    "protocol_whitelist": "file",
}
"""What FFmpeg may open: containers of audio, and no address."""


class MissingExtraError(RuntimeError):
    """The packages that transcribing needs are not installed; the text says how to get them."""


class AudioError(ValueError):
    """A file that cannot be transcribed; the text says why."""


@dataclass(frozen=True)
class Transcription:
    """What was said, and the BCP-47 tag of its language, empty if unknown."""

    segments: list[Segment]
    language: str


class Transcriber(Protocol):
    """Whatever turns an audio file into words. Called in a thread; may take its time."""

    def load(self) -> None:
        """Make ready, before anything is transcribed; called again after it has raised."""

    def transcribe(self, path: Path, language: str, max_s: float) -> Transcription:
        """The words of a file; ``language`` is a BCP-47 tag, or empty to find out.

        Raises AudioError for a file that is none, or longer than ``max_s`` seconds.
        """


class WhisperTranscriber:
    """`faster-whisper` on the CPU, in int8."""

    def __init__(self, model: str, threads: int) -> None:
        """``model`` is the name of a size (`base`), downloaded once, or a folder."""
        self._name = model
        self._threads = threads
        self._model: Any = None

    def load(self) -> None:
        """Load the model. Raises MissingExtraError, and whatever stands in the way of it."""
        try:
            import faster_whisper
        except ImportError as error:
            raise MissingExtraError(
                f"TRANSCRIBE_AUDIO is on, but faster-whisper is not installed ({error}): "
                "pip install 'podstream[asr]'"
            ) from error
        self._model = faster_whisper.WhisperModel(
            self._name, device="cpu", compute_type="int8", cpu_threads=self._threads
        )

    def transcribe(self, path: Path, language: str, max_s: float) -> Transcription:
        """The words of a file; the language is found out unless the model knows the one given."""
        audio = read_audio(path, max_s)
        spoken = language.partition("-")[0].lower()
        known = spoken if spoken in self._model.supported_languages else None
        found, info = self._model.transcribe(audio, language=known, vad_filter=True)
        segments = [
            segment(round(part.start * 1000), round(part.end * 1000), "", part.text)
            for part in found
        ]
        return Transcription([s for s in segments if s.text], info.language or "")


def read_audio(path: Path, max_s: float) -> NDArray[np.float32]:
    """The audio of a file as Whisper wants it: one channel, 16,000 samples a second, -1 to 1.

    Reading stops at the first sample too many: a small file may hold weeks of silence. Playlists
    and whatever else names other files or addresses are not opened. Raises AudioError.
    """
    import av

    pieces: list[NDArray[Any]] = []
    samples = 0
    try:
        with av.open(str(path), metadata_errors="ignore", options=_OPENED) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(audio=0):
                frame.pts = None  # what the file says of times may jump
                for piece in resampler.resample(frame):
                    pieces.append(piece.to_ndarray().reshape(-1))
                    samples += len(pieces[-1])
                check_length(samples / SAMPLE_RATE, max_s)
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"no audio that can be read: {type(error).__name__}") from error
    if not samples:
        raise AudioError("the file holds no audio")
    return np.concatenate(pieces).astype(np.float32) / np.float32(32_768)


def check_length(length_s: float, max_s: float) -> None:
    """Raises AudioError for audio longer than allowed."""
    if length_s > max_s:
        raise AudioError(
            f"the audio is longer than the {max_s:,.0f} seconds allowed (TRANSCRIBE_MAX_S)"
        )
