"""What is kept of an episode whose audio is to be transcribed, and, much less, once it was."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from streams.http.retries import NEVER_MS, decode_entry, encode_entry
from streams.transcripts.core.versions import digest_of_audio

_SCHEMA = "audio_task"
_NEVER = struct.pack(">q", NEVER_MS)
_DONE_BYTES = len(_NEVER) + 8


def new_task(episode: Mapping[str, Any], offset: int, now: float) -> dict[str, Any]:
    """The `audio_task` of an episode, due at once; ``offset`` is that of its record."""
    return {
        "episode_id": episode["episode_id"],
        "url": episode["enclosure_url"],
        "language": episode.get("language") or "",
        "duration_s": episode.get("duration_s"),
        "attempt": 0,
        "due_at": datetime.fromtimestamp(now, UTC),
        "first_at": None,
        "offset": offset,
    }


def encode_task(task: Mapping[str, Any]) -> bytes:
    """The task as Avro, for the stage's table."""
    return encode_entry(_SCHEMA, task)


def decode_task(value: bytes) -> dict[str, Any] | None:
    """The task in a value; None if it is done with.

    Older releases kept the whole task then, without `due_at`.
    """
    if len(value) == _DONE_BYTES:
        return None
    task = decode_entry(_SCHEMA, value)
    return task if task["due_at"] is not None else None


def done_with(url: str) -> bytes:
    """What is left of a task: enough to know its audio again."""
    return _NEVER + digest_of_audio(url)
