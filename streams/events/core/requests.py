"""Requests to forget a listener, as they are read, and what is on record of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from schemas.codec import BadRecordError
from streams.events.core.batching import Batch
from streams.events.core.events import problem_of_id
from streams.events.core.sequencing import Flush, ForgottenListener, Refusal, Sequencer
from streams.kafka.forgetting import Forgetting
from streams.kafka.message import Message
from streams.kafka.placement import partition_of

R = TypeVar("R")


def problem(user_id: str) -> str | None:
    """Why no listener can have this id, in words; None if one can."""
    if not user_id:
        return "user_id is empty"
    why = problem_of_id(user_id)
    return None if why is None else f"user_id {why}"


def requested(record: dict[str, Any], partition: int, partitions: int) -> str:
    """Whom a `forget_request` is about that lies in ``partition``; BadRecordError if nobody can be
    meant, or the listener belongs to another partition."""
    user_id: str = record["user_id"]
    if (why := problem(user_id)) is not None:
        raise BadRecordError(why)
    if (owner := partition_of(user_id.encode(), partitions)) != partition:
        raise BadRecordError(
            f"the listener belongs to partition {owner}: place requests by murmur2 of the key"
        )
    return user_id


def answer(
    sequencer: Sequencer[R],
    record: R,
    message: Message,
    decode: Callable[[Message], dict[str, Any]],
    offset_since: Callable[[int, int], int],
    partitions: int,
) -> Iterator[Refusal[R] | ForgottenListener | Flush | Batch]:
    """What is to be done, one after another, about a request: nothing, if it is answered.

    ``message`` is what is in ``record``. ``offset_since`` gives the first offset of a partition of
    the events whose record has a log time or a later one.
    """
    partition, offset, log_ms = message.partition, message.offset, message.timestamp_ms
    if not sequencer.answers(partition, offset):
        return
    try:
        user_id = requested(decode(message), partition, partitions)
    except BadRecordError as error:
        yield Refusal(record, error)
        sequencer.refuse_request(partition, offset)
        return
    end = offset_since(partition, log_ms + 1)
    yield from sequencer.forget(partition, user_id, end, offset, log_ms)


def forgotten_record(partition: int, forgetting: Forgetting) -> dict[str, Any]:
    """The record of `forgotten_listener`."""
    return {
        "user_id": forgetting.user_id,
        "source_partition": partition,
        "batched_to": forgetting.batched_to,
        "up_to": forgetting.up_to,
        "requested_at": datetime.fromtimestamp(forgetting.requested_ms / 1000, UTC),
    }
