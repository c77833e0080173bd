"""Listener events for benchmarks: seeded, encoded by the column, as a player would send them.

fastavro encodes 310,000 records a second; here a million events take about two seconds, because
each field is written for all events at once. What comes out is plain Avro of the newest version
of `user_event`; a test compares it with fastavro.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas import files
from schemas.codec import frame

EPISODES = 20_000
LISTENERS = 200_000
ZIPF = 1.0
"""Exponent of the popularity of episodes and of the diligence of listeners."""

KIND_SHARES = {
    "impression": 0.34,
    "click": 0.10,
    "play": 0.12,
    "progress": 0.36,
    "pause": 0.04,
    "complete": 0.02,
    "like": 0.02,
}
AGENTS = (
    b"Spotify/8.9.42 iOS/17.5 (iPhone14,5)",
    b"AntennaPod/3.4.0 (Linux; Android 14)",
    b"Pocket Casts/7.66 (Android; Pixel 8)",
    b"Castro/2024.5 (iPhone15,2; iOS 17.5)",
)
HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
DIGITS = np.frombuffer(b"0123456789", np.uint8)
CHUNK = 100_000


@dataclass(frozen=True)
class Events:
    """Consecutive events: ``values[i]`` is a framed message, ``users[i]`` its key."""

    values: list[bytes]
    users: list[bytes]
    plays: int
    heard_ms: int


class Generator:
    """Draws events whose time advances by ``1 / rate`` seconds from one to the next."""

    def __init__(self, seed: int, start_ms: int, rate: float, schema_id: int) -> None:
        self._random = np.random.default_rng(seed)
        self._start_ms, self._rate = start_ms, rate
        self._head = frame(schema_id, b"")
        self._made = 0
        (kind,) = (f for f in files.load("user_event")["fields"] if f["name"] == "kind")
        self._kinds = np.array([kind["type"]["symbols"].index(name) for name in KIND_SHARES])
        self._episodes = _zipf_cdf(EPISODES, ZIPF)
        self._listeners = _zipf_cdf(LISTENERS, ZIPF / 2)
        # The most popular are spread over the ids, as they are in life.
        self._episode_ids = self._random.permutation(EPISODES)
        self._listener_ids = self._random.permutation(LISTENERS)

    def chunks(self, count: int) -> Iterator[Events]:
        """The next ``count`` events, at most CHUNK at a time."""
        for start in range(0, count, CHUNK):
            yield self.draw(min(CHUNK, count - start))

    def draw(self, n: int) -> Events:
        """The next ``n`` events."""
        random = self._random
        kinds = self._kinds[random.choice(len(self._kinds), n, p=list(KIND_SHARES.values()))]
        symbols = dict(zip(KIND_SHARES, self._kinds.tolist(), strict=True))
        episodes = self._episode_ids[np.searchsorted(self._episodes, random.random(n))]
        listeners = self._listener_ids[np.searchsorted(self._listeners, random.random(n))]
        times = self._start_ms + ((self._made + np.arange(n)) * 1000 / self._rate).astype(np.int64)
        hears = np.isin(kinds, [symbols[name] for name in ("progress", "pause", "complete")])
        heard = np.where(hears, random.integers(5_000, 30_001, n), 0)
        durations = 600_000 + episodes.astype(np.int64) * 7919 % 5_400_000
        positions = np.where(hears, (durations * random.random(n)).astype(np.int64), 0)
        ranks = 1 + random.integers(0, 50, n)
        self._made += n

        users = [b"listener-%06d" % number for number in listeners.tolist()]
        parts = [
            _constant(n, self._head + _text_length(32)),
            _hex(random.integers(0, 256, (n, 16), np.uint8)),
            _constant(n, _text_length(15) + b"listener-"),
            _decimal(listeners, 6),
            _constant(n, _text_length(10) + b"pi:"),
            _decimal(episodes, 7),
            _varints(kinds),
            _varints(times),
            _varints(heard),
            _varints(positions),
            _constant(n, b"\x02" + _text_length(9) + b"s"),
            _decimal(listeners, 8),
            _constant(n, b"\x02" + _text_length(15) + b"recommendations" + b"\x02"),
            _varints(ranks),
            _constant(n, b"\x00\x02" + _text_length(36)),
            _agents(random.integers(0, len(AGENTS), n)),
            _constant(n, b"\x02" + _text_length(16) + b"20260101T000000Z" + b"\x02"),
            _varints(durations),
        ]
        return Events(
            _rows(parts),
            users,
            int(np.count_nonzero(kinds == symbols["play"])),
            int(heard.sum()),
        )


Part = tuple[np.ndarray, np.ndarray]
"""Bytes [n, width] and which of them count [n, width]."""


def _zipf_cdf(count: int, exponent: float) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1) ** exponent
    return np.cumsum(weights) / weights.sum()


def _text_length(length: int) -> bytes:
    return bytes([length * 2])


def _all(matrix: np.ndarray) -> Part:
    return matrix, np.broadcast_to(np.True_, matrix.shape)


def _constant(n: int, text: bytes) -> Part:
    return _all(np.broadcast_to(np.frombuffer(text, np.uint8), (n, len(text))))


def _hex(raw: np.ndarray) -> Part:
    return _all(np.stack((HEX[raw >> 4], HEX[raw & 15]), axis=2).reshape(len(raw), -1))


def _decimal(numbers: np.ndarray, width: int) -> Part:
    powers = 10 ** np.arange(width - 1, -1, -1)
    return _all(DIGITS[numbers[:, np.newaxis] // powers % 10])


def _agents(choice: np.ndarray) -> Part:
    return _all(np.frombuffer(b"".join(AGENTS), np.uint8).reshape(len(AGENTS), -1)[choice])


def _varints(numbers: np.ndarray) -> Part:
    """Avro's encoding of numbers that are not negative: 7 bits a byte, low ones first."""
    zigzag = numbers.astype(np.int64) << 1
    width = max(1, -(-int(zigzag.max()).bit_length() // 7))
    shifted = zigzag[:, np.newaxis] >> (7 * np.arange(width))
    goes_on = shifted >= 0x80
    used = np.concatenate((np.ones((len(numbers), 1), bool), goes_on[:, :-1]), axis=1)
    return ((shifted & 0x7F) | goes_on * 0x80).astype(np.uint8), used


def _rows(parts: list[Part]) -> list[bytes]:
    used = np.concatenate([mask for _, mask in parts], axis=1)
    flat = np.concatenate([matrix for matrix, _ in parts], axis=1)[used].tobytes()
    ends = np.cumsum(used.sum(axis=1)).tolist()
    return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
