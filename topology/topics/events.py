"""Topics of what listeners do."""

from __future__ import annotations

from topology.model import EVENT_PATH, MEGABYTE, ArrowTopic, AvroTopic, Topic

USER_EVENTS = AvroTopic(
    "user-events",
    "What listeners did, one event a message: the public way in.",
    key="user_id",
    schema="user_event",
    partitions=EVENT_PATH,
    append_time=True,
)

USER_EVENT_BATCHES = ArrowTopic(
    "user-event-batches",
    "Valid events without duplicates, thousands to a message, each row with the partition "
    "and offset it came from. Headers `first_offset` and `last_offset` give the range of "
    "source offsets a message accounts for, also for the rows that were refused.",
    key="none; partition = the source partition",
    schema="user_event",
    partitions=EVENT_PATH,
    max_message_bytes=16 * MEGABYTE,
)

TOPICS: tuple[Topic, ...] = (
    USER_EVENTS,
    USER_EVENT_BATCHES,
)
