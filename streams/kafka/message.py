"""A Kafka record as every stage sees it, whichever client read it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka record.

    ``timestamp_ms`` is the log's own time, milliseconds since 1970: the same at every replay.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    headers: tuple[tuple[str, bytes], ...] = field(default=())

    @property
    def key_text(self) -> str:
        """The key as text, whatever its bytes are; empty without one."""
        return (self.key or b"").decode(errors="replace")

    def header(self, name: str) -> bytes | None:
        """The last value of a header; None if it is not there."""
        return next((value for key, value in reversed(self.headers) if key == name), None)
