"""An event loop that turns when a simulated world says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

from tests.simulation.world import Killed, Process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulatedLoop(asyncio.BaseEventLoop):
    """The event loop of one process. It turns when the world says so, and before each callback,
    which is at every await that waits, its process may be killed."""

    def __init__(self, process: Process) -> None:
        self._turning = False
        super().__init__()
        self._process = process
        self._world = process.world
        self._ready: deque[asyncio.Handle] = deque()
        self._begun: list[asyncio.Task[Any]] = []
        self._woken = False
        self._chance = self._world.chance(f"turns of {process.slot}")
        self._threads = f"threads of {process.slot}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything within runs as on this loop."""
        asyncio._set_running_loop(self)
        self._turning, self._world.running = True, self._process
        try:
            yield
        finally:
            self._turning, self._world.running = False, None
            asyncio._set_running_loop(None)

    def _turn(self) -> None:
        self._woken = False
        if not self._process.alive:
            self._ready.clear()
            return
        if self._process.frozen_until > self._world.now:
            self._wake(self._process.frozen_until - self._world.now)
            return
        with self.running():
            for _ in range(len(self._ready)):
                if self._process.is_killed_here():
                    break
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        if self._ready:
            self._wake(self._chance.random() * 0.001)

    def _wake(self, seconds: float) -> None:
        if not self._woken:
            self._woken = True
            self._world.after(seconds, self._turn)

    def time(self) -> float:
        return self._world.now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._wake(0.0)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            self._ready.append(handle)
            self._wake(0.0)

        self._world.after(max(0.0, when - self.time()), due)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: it is passed over when it is due."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **more)
        self._begun.append(task)
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """The call is made at some moment later, and what it gives comes later still."""
        done: asyncio.Future[T] = self.create_future()
        delayed = partial(self._world.delay, self._threads)

        def call() -> None:
            if not self._process.alive:
                return
            made = partial(func, *args)
            self._world.after(delayed(), lambda: self.call_soon(settle, done, *outcome(made)))

        self._world.after(delayed(), call)
        return done

    def bury(self) -> None:
        """Close what was never finished, when the world is over."""
        for task in self._begun:
            if not task.done():
                coroutine: Any = task.get_coro()
                coroutine.close()
        self._begun.clear()
        self.close()

    def is_running(self) -> bool:
        return self._turning

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody asked for; whoever has died leaves such things behind."""
        error = context.get("exception")
        if self._process.alive and not isinstance(error, Killed):
            self._world.tell(f"{self._process.slot}: {context}")
            self._process.at_end(error)


def outcome(made: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What a call gives, or raises."""
    try:
        return made(), None
    except Exception as error:
        return None, error


def settle(done: asyncio.Future[Any], result: Any, failed: Exception | None) -> None:
    """Give a future its result or its error, unless whoever waited has given up."""
    if done.done():
        return
    if failed is None:
        done.set_result(result)
    else:
        done.set_exception(failed)
