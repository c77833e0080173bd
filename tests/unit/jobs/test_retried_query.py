"""A query that fails is launched again, and the failures before are forgotten once it works."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.retried_query import RetriedQuery


class Attempts:
    """Counts, and lets the test say when one is due."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.due = 0.0

    @property
    def failing(self) -> bool:
        return bool(self.failures)

    def due_s(self) -> float:
        return self.due

    def failed(self, error: BaseException) -> None:
        self.failures.append(str(error))

    def succeeded(self) -> None:
        self.failures.clear()


class Query:
    name = "embed"

    def __init__(self) -> None:
        self.isActive = True
        self.lastProgress: dict[str, Any] | None = None
        self.error: Exception | None = None

    def exception(self) -> Exception | None:
        return self.error

    def end(self, said: str) -> None:
        self.isActive, self.error = False, RuntimeError(said)


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


def retried(attempts: Any, launched: list[Any], renewed: list[None]) -> RetriedQuery:
    def launch() -> Any:
        query = launched.pop(0)
        if isinstance(query, Exception):
            raise query
        return query

    return RetriedQuery(launch, attempts, lambda: renewed.append(None))


def test_a_query_that_ends_is_launched_again_when_it_is_due(attempts: Attempts) -> None:
    first, second = Query(), Query()
    renewed: list[None] = []
    query = retried(attempts, [first, second], renewed)
    query.look()
    assert query.query is first  # type: ignore[comparison-overlap]
    first.end("out of ideas")
    attempts.due = 15.0
    query.look()
    query.look()
    assert query.query is None
    assert attempts.failures == ["out of ideas"]
    assert not renewed
    attempts.due = 0.0
    query.look()
    assert query.query is second
    assert renewed == [None]
    query.look()
    assert attempts.failing, "it has not shown yet that it works"
    second.lastProgress = {"batchId": 1}
    query.look()
    assert not attempts.failing


def test_a_launch_that_fails_is_a_failure_like_any(attempts: Attempts) -> None:
    query = retried(attempts, [ValueError("no model"), Query()], [])
    query.look()
    assert query.query is None
    assert attempts.failures == ["no model"]
    query.look()
    assert query.query is not None


def test_a_source_that_trips_over_its_figures_has_not_failed(attempts: Attempts) -> None:
    first, second = Query(), Query()
    query = retried(attempts, [first, second], [])
    query.look()
    first.end("IterableOps.map … Option.get()")
    query.look()
    assert query.query is second  # type: ignore[comparison-overlap]
    assert not attempts.failing
