"""What `podstream status` says of repeats and of events that were handed over."""

from __future__ import annotations

from streams.events.core.origins import Tally
from streams.operations.arrivals import Arrivals, arrivals_line, arrivals_of


def test_the_partitions_are_added_up_and_the_largest_client_comes_first() -> None:
    tallies = [
        Tally(repeated=3, moved=2, clients={"app": 2}),
        Tally(repeated=1000, moved=9, clients={"unknown": 8, "app": 1}),
    ]
    found = arrivals_of(tallies)
    assert found == Arrivals(1003, {"unknown": 8, "app": 3})
    said = arrivals_line(found)
    assert said is not None
    assert said.startswith("1,003 events came more than once and count once. 11 events lay in")
    assert "(producers that do not say who they are 8, app 3)" in said


def test_nothing_is_said_where_there_is_nothing() -> None:
    assert arrivals_line(arrivals_of([])) is None
    assert arrivals_line(Arrivals(0, {"app": 1})) is not None
