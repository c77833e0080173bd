"""How the trackers forget a listener: in memory, and in the log of their states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from streams.kafka.forgetting import Forgetting
from streams.kafka.message import Message
from streams.state.protocols import PartitionState
from streams.state.store import LogStates


class ForgettingState(PartitionState, Protocol):
    """The state of a partition that can forget a listener."""

    def forget(self, user_id: str, nobody: str) -> bool:
        """Have nothing lead to a listener, whose number goes to ``nobody``.

        Whether the listener was known.
        """


F = TypeVar("F", bound=ForgettingState)


async def forget_listeners(
    states: LogStates[F], forgotten: Sequence[tuple[Message, Forgetting]]
) -> None:
    """Forget listeners in the states of their partitions, which are saved.

    The changes in a log of states do not tell that something has gone: a snapshot follows at once,
    and what is counted later is saved after it. A state that has counted beyond the offset has the
    forgetting behind it.
    """
    for partition in sorted({message.partition for message, _ in forgotten}):
        state = await states.get(partition)
        known = [
            state.forget(forgetting.user_id, f"{NOBODY}{message.offset}")
            for message, forgetting in forgotten
            if message.partition == partition and state.applied <= forgetting.up_to
        ]
        if any(known):
            await states.save(partition, whole=True)


NOBODY = "\x7f"
"""What the names of those begin with who were forgotten: no listener's id has such a character."""
