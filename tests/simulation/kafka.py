"""Kafka as a simulation has it: logs, producers whose records are on their way, consumer groups.

What a producer was given arrives later: in order within a partition, in any order between them. Of
what is on its way when its process is killed, the first records of each partition still arrive. A
request may be refused, or be served and its answer lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from confluent_kafka import KafkaError

from schemas.registry import FixedRegistry
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.wire import Wire
from tests.simulation.world import Process, World
from topology.graph import build_graph, declared_subjects
from topology.model import Graph

PARTITIONS = 2

Place = tuple[str, int]
"""A topic and a partition of it."""

Told = Callable[[KafkaError | None, int], None]
"""What a producer does with an error, or with the offset of its record."""

Headers = Sequence[tuple[str, bytes]]


@cache
def graph() -> Graph:
    """The graph of every simulation, made once."""
    return build_graph(PARTITIONS)


@cache
def registry() -> FixedRegistry:
    return FixedRegistry(declared_subjects(graph()))


@cache
def wire() -> Wire:
    return Wire(graph(), registry())


class Logs:
    """Every partition of every topic: records by offset, from the first that is left."""

    def __init__(self, world: World, wall_ms: Callable[[], int]) -> None:
        self._world = world
        self._wall_ms = wall_ms
        self._records: defaultdict[Place, list[Message]] = defaultdict(list)
        self._starts: defaultdict[Place, int] = defaultdict(int)
        self.watchers: defaultdict[Place, list[Callable[[], None]]] = defaultdict(list)
        """Called when a record comes to a partition."""
        self.written: list[Callable[[Message], None]] = []
        """Called with every record."""
        self.truncated: list[Callable[[Place], None]] = []
        """Called with every partition that was truncated."""

    def append(
        self, place: Place, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        records = self._records[place]
        topic, partition = place
        message = Message(
            topic, partition, len(records), key, value, self._wall_ms(), tuple(headers)
        )
        records.append(message)
        for watch in self.watchers[place]:
            watch()
        for tell in self.written:
            tell(message)
        return message.offset

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The offset of the first record that is left, and the one after the last."""
        return self._starts[topic, partition], len(self._records[topic, partition])

    def read(self, topic: str, partition: int, start: int, end: int) -> list[Message]:
        """What is left of the records from ``start`` up to but without ``end``."""
        return self._records[topic, partition][max(start, self._starts[topic, partition]) : end]

    def truncate(self, topic: str, partition: int, offset: int) -> None:
        """Forget the records before an offset."""
        self._starts[topic, partition] = max(offset, self._starts[topic, partition])
        for tell in self.truncated:
            tell((topic, partition))

    def records(self, topic: str) -> list[Message]:
        """Everything that is left in a topic, partition by partition."""
        found = (self.read(topic, n, 0, self.bounds(topic, n)[1]) for n in partitions_of(topic))
        return [message for some in found for message in some]


class EventLogs:
    """`streams.events.core.sequencing.EventLogs` on these logs."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._logs.bounds(topic, partition)

    def offset_since(self, topic: str, partition: int, timestamp_ms: int) -> int:
        first, end = self.bounds(topic, partition)
        later = (
            message.offset
            for message in self._logs.read(topic, partition, first, end)
            if message.timestamp_ms >= timestamp_ms
        )
        return next(later, end)

    def messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        if start < end:
            yield self._logs.read(topic, partition, start, end)


def partitions_of(topic: str) -> range:
    return range(graph().topics[topic].partitions)


@dataclass(eq=False)
class Request:
    """A record on its way."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: Headers
    told: Told
    arrives: float
    fate: str = "taken"
    """``taken``, ``refused``, or ``unheard``: taken, but its answer is an error."""
    dropped: bool = False


@dataclass
class Refusal:
    """Of the records that a slot sends, the ``number``-th is refused, or taken unheard."""

    slot: str
    number: int
    unheard: bool


@dataclass
class Network:
    """What all producers of a world share."""

    world: World
    logs: Logs
    refusals: list[Refusal] = field(default_factory=list)
    cuts: set[tuple[str, int]] = field(default_factory=set)
    """Of which slot which record is the last one that it sends before it is killed; of those to one
    topic if that is named behind it: ``SLOT to TOPIC``."""
    sent: Counter[str] = field(default_factory=Counter)
    underway: int = 0
    """Records that have been sent and have not arrived."""

    def fate_of(self, process: Process, topic: str) -> str:
        """What becomes of the next record that a process sends."""
        slot = process.slot
        for sender in (slot, f"{slot} to {topic}"):
            self.sent[sender] += 1
            number = self.sent[sender]
            if (sender, number) in self.cuts:
                self.world.tell(f"{slot} is killed when record {number} of {sender} is on its way")
                late = self.world.chance(f"losses of {slot}").random() * 0.02
                self.world.after(late, process.die)
        for refusal in self.refusals:
            if (refusal.slot, refusal.number) == (slot, self.sent[slot]):
                self.world.tell(f"{slot}: its record {refusal.number} fails")
                return "unheard" if refusal.unheard else "refused"
        return "taken"


class Producer:
    """An idempotent producer: no record twice, none overtakes another of its partition.

    ``gapless``: after a failure nothing that follows is sent.
    """

    def __init__(self, network: Network, process: Process, *, gapless: bool = False) -> None:
        self._network = network
        self._world = network.world
        self._process = process
        self._gapless = gapless
        self._failed = False
        self._underway: defaultdict[Place, deque[Request]] = defaultdict(deque)
        self._heard: defaultdict[Place, float] = defaultdict(float)
        self._chance = self._world.chance(f"losses of {process.slot}")
        process.at_death.append(self._cut)

    def __len__(self) -> int:
        return sum(map(len, self._underway.values()))

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        told: Told,
    ) -> None:
        """Send a record at once; without a partition, its key chooses it."""
        if not self._process.alive:
            return
        if partition is None:
            count = len(partitions_of(topic))
            partition = (
                partition_of(key, count) if key is not None else self._chance.randrange(count)
            )
        place = (topic, partition)
        queue = self._underway[place]
        earliest = queue[-1].arrives if queue else 0.0
        delay = self._world.delay(f"{self._process.slot} to {topic}")
        request = Request(place, key, value, headers, told, max(earliest, self._world.now + delay))
        request.fate = self._network.fate_of(self._process, topic)
        queue.append(request)
        self._network.underway += 1
        self._world.after(request.arrives - self._world.now, lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        if request.dropped:
            return
        queue = self._underway[request.place]
        queue.popleft()
        self._network.underway -= 1
        offset, error = -1, None
        if self._gapless and self._failed:
            error = KafkaError(KafkaError._MSG_TIMED_OUT)
        elif request.fate == "refused":
            self._failed, error = True, KafkaError(KafkaError._MSG_TIMED_OUT)
        else:
            offset = self._network.logs.append(
                request.place, request.key, request.value, request.headers
            )
            if request.fate == "unheard":
                self._failed, error = True, KafkaError(KafkaError._MSG_TIMED_OUT)
        # Answers of a partition come in the order of its records.
        delay = self._world.delay(f"answers to {self._process.slot}")
        heard = max(self._heard[request.place], self._world.now + delay)
        self._heard[request.place] = heard
        self._world.after(heard - self._world.now, partial(self._answer, request, error, offset))

    def _answer(self, request: Request, error: KafkaError | None, offset: int) -> None:
        if self._process.alive:
            request.told(error, offset)

    def _cut(self) -> None:
        """Its process is gone: some of what is on its way is lost, the last records first."""
        for queue in self._underway.values():
            kept = self._chance.randint(0, len(queue))
            for request in list(queue)[kept:]:
                request.dropped = True
                queue.remove(request)
                self._network.underway -= 1


class Group:
    """A consumer group: who owns which partition, and what was committed.

    Members are asked to let go; once all have, or the time is over, the partitions are divided
    anew. Who did not answer is out, and may not know it yet.
    """

    REBALANCE_S = 6.0

    def __init__(self, world: World, name: str, topics: Sequence[str]) -> None:
        self._world = world
        self.name = name
        self.topics = topics
        self.members: list[Member] = []
        self.generation = 0
        self.committed: dict[Place, int] = {}
        self.commits: list[Callable[[Place, int], None]] = []
        """Called with every commit that counts."""
        self._joining: set[Member] | None = None
        self._divided = 0

    def join(self, member: Member) -> None:
        """A member comes, or comes back."""
        if member not in self.members:
            self.members.append(member)
        self.rebalance()

    def leave(self, member: Member) -> None:
        """A member has gone, or has not been heard of for too long."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Divide the partitions anew."""
        self.generation += 1
        generation, self._joining = self.generation, set(self.members)
        for member in self.members:
            delay = self._world.delay(f"heartbeats of {self.name}")
            self._world.after(delay, partial(self._ask, member, generation))
        self._world.after(self.REBALANCE_S, lambda: self._give_up(generation))

    def _ask(self, member: Member, generation: int) -> None:
        if generation == self.generation and member in self.members:
            member.let_go(generation)

    def ready(self, member: Member, generation: int) -> None:
        """A member has let go of everything."""
        if generation == self.generation and self._joining is not None:
            self._joining.discard(member)
            if not self._joining:
                self._divide()

    def _give_up(self, generation: int) -> None:
        if generation == self.generation and self._joining:
            out, self._joining = self._joining, None
            self.members = [one for one in self.members if one not in out]
            for member in sorted(out, key=lambda one: one.slot):
                self._world.after(self._world.delay(f"heartbeats of {self.name}"), member.expelled)
            self._divide()

    def _divide(self) -> None:
        self._joining = None
        members = list(self.members)
        if not members:
            return
        self._world.chance(f"shares of {self.name}").shuffle(members)
        shares = {
            member: set(range(PARTITIONS)[at :: len(members)]) for at, member in enumerate(members)
        }
        told = ", ".join(f"{member.slot} {sorted(share)}" for member, share in shares.items())
        self._world.tell(f"{self.name}: generation {self.generation}: {told}")
        self._divided = generation = self.generation
        for member, share in shares.items():
            # Who cooperates has what nobody else still has; the rest comes when they let go.
            share -= {n for other in members if other is not member for n in other.owned}
            delay = self._world.delay(f"heartbeats of {self.name}")
            self._world.after(delay, partial(self._give, member, generation, share))

    def _give(self, member: Member, generation: int, share: set[int]) -> None:
        if generation == self._divided and member in self.members:
            member.assign(generation, share)

    def commit(self, member: Member, generation: int, offsets: dict[Place, int]) -> bool:
        """Whether a commit counts: it is of a member, and of the generation it was made in."""
        # While members let go, what was divided last still counts.
        if member not in self.members or generation != self._divided:
            return False
        self.committed.update(offsets)
        for place, offset in offsets.items():
            for tell in self.commits:
                tell(place, offset)
        return True


class Member:
    """What a group asks of its members."""

    slot: str

    @property
    def owned(self) -> set[int]:
        """What is kept while the partitions are divided, by a member that cooperates."""
        return set()

    def let_go(self, generation: int) -> None:
        raise NotImplementedError

    def assign(self, generation: int, partitions: set[int]) -> None:
        raise NotImplementedError

    def expelled(self) -> None:
        """It was taken for dead, and hears of it."""
        raise NotImplementedError
