"""A clock moved by hand wakes who sleeps in order, the same way in every run."""

import asyncio

import pytest

from streams.runtime.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_counts_seconds_since_1970_and_spans() -> None:
    clock: Clock = SystemClock()
    assert clock.now() > 1_700_000_000

    async def slept_s() -> float:
        before = clock.monotonic()
        await clock.sleep(0.01)
        return clock.monotonic() - before

    assert asyncio.run(slept_s()) >= 0.01


def test_steps_add_up_exactly() -> None:
    clock = ManualClock(100.0)
    for _ in range(10):
        clock.move(0.1)
    assert (clock.now(), clock.monotonic()) == (101.0, 1.0)


def test_setting_the_wall_time_moves_no_span() -> None:
    clock = ManualClock()
    clock.move(5)
    clock.set(1_000.25)
    clock.set(1_000.0)
    assert (clock.now(), clock.monotonic()) == (1_000.0, 5.0)
    clock.move(1)
    assert (clock.now(), clock.monotonic()) == (1_001.0, 6.0)


class Sleepers:
    """Who woke, and when."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.woken: list[tuple[str, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def lie_down(self, name: str, *naps_s: float) -> asyncio.Task[None]:
        async def sleep() -> None:
            for seconds in naps_s:
                await self.clock.sleep(seconds)
                self.woken.append((name, self.clock.monotonic()))

        self.tasks.append(asyncio.ensure_future(sleep()))
        return self.tasks[-1]


async def test_sleepers_wake_in_the_order_of_their_due_times_and_at_them() -> None:
    sleepers = Sleepers(ManualClock())
    sleepers.lie_down("late", 3)
    sleepers.lie_down("often", 1, 1, 1, 1)
    sleepers.lie_down("early", 0.5)
    await sleepers.clock.advance(3)
    assert sleepers.woken == [
        ("early", 0.5),
        ("often", 1),
        ("often", 2),
        ("late", 3),  # it lay down before the other did for the third time
        ("often", 3),
    ]
    await sleepers.clock.advance(1)
    assert sleepers.woken[-1] == ("often", 4)


async def test_nobody_wakes_before_his_time_or_after_he_has_left() -> None:
    sleepers = Sleepers(ManualClock())
    gone, stays = sleepers.lie_down("gone", 1), sleepers.lie_down("stays", 2)
    await sleepers.clock.advance(0.999)
    assert sleepers.woken == []
    gone.cancel()
    await sleepers.clock.advance(1.001)
    assert sleepers.woken == [("stays", 2)]
    assert stays.done()


async def test_a_move_wakes_all_who_are_due_at_the_time_it_is_then() -> None:
    sleepers = Sleepers(ManualClock())
    sleepers.lie_down("second", 2)
    sleepers.lie_down("first", 1)
    await asyncio.sleep(0)
    sleepers.clock.move(10)
    await asyncio.gather(*sleepers.tasks)
    assert sleepers.woken == [("first", 10), ("second", 10)]


async def test_sleeping_for_nothing_lets_the_others_act() -> None:
    clock, acted = ManualClock(), list[str]()

    async def act() -> None:
        acted.append("other")

    other = asyncio.ensure_future(act())
    await clock.sleep(0)
    await clock.sleep(-1)
    assert acted == ["other"]
    await other


async def test_time_passes_for_work_that_sleeps_and_stands_still_otherwise() -> None:
    clock = ManualClock()

    async def work() -> str:
        await asyncio.gather(clock.sleep(30), clock.sleep(3600))
        await asyncio.to_thread(lambda: None)
        await clock.sleep(1)
        return "done"

    assert await clock.drive(work()) == "done"
    assert clock.monotonic() == 3601
    assert await clock.drive(asyncio.to_thread(lambda: 5)) == 5
    assert clock.monotonic() == 3601


async def test_work_that_fails_while_it_is_driven_fails_for_its_caller() -> None:
    clock = ManualClock()

    async def work() -> None:
        await clock.sleep(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await clock.drive(work())
