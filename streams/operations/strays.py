"""Finds the events that count where they lie although their listener belongs elsewhere.

Releases that knew no hand-over counted every event in the partition where it lay. One that hands
over leaves a copy of each stray in the log, with its place before; without a copy there was no
hand-over. Both follow each other in time, so an offset of each partition tells one from the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streams.events.batch_progress import KafkaEventLogs
from streams.events.core.batching import Chunk, check
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source, place_before


def strays_counted(
    logs: KafkaEventLogs,
    topic: str,
    source: Source,
    decoder: EventDecoder,
    batched: Mapping[int, int],
) -> dict[int, int]:
    """Source partition -> the offset below which strays were counted there; without those that
    have none.

    The whole topic is read. ``batched``: partition -> the first offset that was in no batch yet.
    Raises SilentLogError and KafkaException.
    """
    first_stray: dict[int, int] = {}
    until = dict(batched)
    for partition in range(source.partitions):
        for chunk in logs.chunks(topic, partition, *logs.bounds(topic, partition)):
            for piece in chunk.pieces():
                copies = _copies(piece, source)
                for before, offset in copies.values():
                    until[before] = min(until.get(before, offset), offset)
                (checked,) = check([piece], decoder, source.partitions)
                away = checked.owners != partition
                strays = np.setdiff1d(checked.events["offset"].to_numpy()[away], list(copies))
                if strays.size:
                    first_stray.setdefault(partition, int(strays[0]))
    return {n: until[n] for n, offset in first_stray.items() if offset < until.get(n, 0)}


def _copies(chunk: Chunk, source: Source) -> dict[int, tuple[int, int]]:
    """Offset of each event that was handed over -> partition and offset where it lay before."""
    found = {}
    for offset, headers in zip(chunk.offsets, chunk.headers, strict=False):  # or without any
        if (before := place_before(headers, source)) is not None:
            found[offset] = before
    return found
