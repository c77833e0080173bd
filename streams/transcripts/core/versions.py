"""Which version of an episode its transcript was told for: what the transcript depends on, and
where in the log that was said."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from streams.text.addresses import lasting_address
from streams.transcripts.core.transcripts import to_be_heard

OFFSET_HEADER = "episode_offset"
"""The header of `heard-transcripts` that says which record of the episode was heard."""
WITHDRAWN = b""
"""The digest of an episode that is no longer there."""
_OFFSET = struct.Struct(">q")


class Version(NamedTuple):
    """``digest`` is 8 bytes, or `WITHDRAWN`; ``offset`` that of the newest record of the episode
    that says so."""

    offset: int
    digest: bytes

    def encode(self) -> bytes:
        """The version as bytes: offset, then digest."""
        return _OFFSET.pack(self.offset) + self.digest

    @classmethod
    def decode(cls, value: bytes) -> Version:
        """The version that `encode` made these bytes of."""
        return cls(_OFFSET.unpack_from(value)[0], value[_OFFSET.size :])


def digest_of(episode: Mapping[str, Any] | None) -> bytes:
    """The digest of an `episode`: of its audio if that is to be heard, or else of its links."""
    if episode is None:
        return WITHDRAWN
    if to_be_heard(episode):
        return digest_of_audio(episode["enclosure_url"])
    return digest_of_links(episode["transcripts"])


def digest_of_links(links: Iterable[Mapping[str, str]]) -> bytes:
    """The digest of the transcripts that an episode, or its retry, lists; what expires in their
    addresses does not count."""
    return _digest("links", *(lasting_address(link["url"]) for link in links))


def digest_of_audio(url: str) -> bytes:
    """The digest of audio that is to be heard."""
    # The word that was used when the first digests were kept: another would transcribe all anew.
    return _digest("sound", lasting_address(url))


def _digest(*parts: str) -> bytes:
    text = "\n".join(parts)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
