"""Removes topics and groups that a call before, cut off, may have removed already."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed


def unless_gone(removed: Future[Any], gone: int, timeout_s: float) -> None:
    """Wait until something is removed, which a call before this one, cut off, may have done.

    ``gone`` is the error's code of what is not there; KafkaException for any other.
    """
    try:
        removed.result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() != gone:
            raise


def delete_topics(admin: AdminClient, names: Collection[str], timeout_s: float) -> None:
    """Delete topics, as far as they are there, and return when they are not listed any more.

    A broker hears of it a little after the controller has answered: until then it would call a
    topic there that is to be made anew. TimeoutError if that takes too long, and KafkaException.
    """
    if not names:
        return
    for removed in admin.delete_topics(list(names), request_timeout=timeout_s).values():
        unless_gone(removed, KafkaError.UNKNOWN_TOPIC_OR_PART, timeout_s)
    for attempt in Retrying(
        retry=retry_if_exception_type(TimeoutError),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(0.05),
        reraise=True,
    ):
        with attempt:
            if left := sorted(admin.list_topics(timeout=timeout_s).topics.keys() & set(names)):
                raise TimeoutError(f"the broker still lists {', '.join(left)}")
