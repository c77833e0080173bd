"""The watchdog sees a stage go on while its group is divided anew and its states are restored."""

from __future__ import annotations

import asyncio

import faust
import pytest

from streams.runtime.faust.runner import FaustContext
from streams.runtime.in_memory import MemoryLog, MemoryStateLog
from streams.state.keyed_table import KeyedState
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import ENGAGEMENT_STATE


class ContextOnMemory(FaustContext):
    """A stage on Faust whose states are logged in memory, as no broker is there."""

    def __init__(self, app: faust.App, log: MemoryLog) -> None:
        stage = log.graph.stages["track_engagement"]
        super().__init__(app, stage, Settings.model_validate({}), log.graph, log.registry)
        self._memory = log

    def _state_log(self, topic: str) -> MemoryStateLog:  # type: ignore[override]
        return MemoryStateLog(self._memory, topic)


@pytest.fixture
def app() -> faust.App:
    """An app that is never started."""
    return faust.App("test", broker="kafka://127.0.0.1:1", autodiscover=False)


def test_each_state_that_is_restored_is_progress(app: faust.App) -> None:
    async def seen() -> list[object]:
        context = ContextOnMemory(app, MemoryLog(build_graph(2)))
        states = context.states(ENGAGEMENT_STATE, lambda _: KeyedState())
        found = [context.progress()]
        states.assign({0, 1})
        for partition in (0, 1):
            await states.get(partition)
            found.append(context.progress())
        found.append(context.progress())
        return found

    nothing, one, both, idle = asyncio.run(seen())
    assert len({nothing, one, both}) == 3
    assert idle == both


def test_a_new_generation_of_the_group_is_progress(app: faust.App) -> None:
    context = ContextOnMemory(app, MemoryLog(build_graph(2)))
    before = context.progress()
    app.consumer_generation_id += 1
    assert context.progress() != before
