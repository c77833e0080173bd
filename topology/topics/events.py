"""Topics of what listeners do."""

from __future__ import annotations

from schemas.units import MINUTE_MS
from topology.model import EVENT_PATH, MEGABYTE, ArrowTopic, AvroTopic, Topic

USER_EVENTS = AvroTopic(
    "user-events",
    "What listeners did, one event a message: the public way in. A listener's events count in the "
    "partition that murmur2 gives the user_id; those found in another one, whatever their key, "
    "are sent there again, with the header `podstream.origin`. A producer that sends a header "
    "`client.id` is named by it in `podstream status`.",
    key="user_id",
    schema="user_event",
    partitions=EVENT_PATH,
    append_time=True,
)

USER_EVENT_BATCHES = ArrowTopic(
    "user-event-batches",
    "Valid events without duplicates, thousands to a message, each row with the partition "
    "and offset it came from. Headers `first_offset` and `last_offset` give the range of "
    "source offsets a message accounts for, also for the rows that were refused or handed over; "
    "`tally` tells how many came before, were handed over, and of whom. A message without rows and "
    "with the headers `forgotten`, `up_to` and `requested_ms` says, in its place, that a listener "
    "is forgotten.",
    key="none; partition = the source partition",
    schema="user_event",
    partitions=EVENT_PATH,
    purge_after_ms=10 * MINUTE_MS,
    max_message_bytes=16 * MEGABYTE,
)

FORGET_REQUESTS = AvroTopic(
    "forget-requests",
    "Whom to forget: `podstream forget` and the API write here. A listener's request lies in the "
    "partition of the listener's events.",
    key="user_id",
    schema="forget_request",
    partitions=EVENT_PATH,
    cleanup="compact",
    append_time=True,
)

FORGOTTEN_LISTENERS = AvroTopic(
    "forgotten-listeners",
    "Up to which offset of its partition each listener was forgotten, in the headers as well: "
    "whoever reads `user-events` again leaves out what lies there of it.",
    key="user_id; partition = the source partition",
    schema="forgotten_listener",
    partitions=EVENT_PATH,
    cleanup="compact",
    shared=True,
)

TOPICS: tuple[Topic, ...] = (
    USER_EVENTS,
    USER_EVENT_BATCHES,
    FORGET_REQUESTS,
    FORGOTTEN_LISTENERS,
)
