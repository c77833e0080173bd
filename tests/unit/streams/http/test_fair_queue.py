from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streams.http.fair_queue import FairQueue


def test_a_host_with_much_work_leaves_turns_for_others() -> None:
    queue = FairQueue[int](6, 2)
    for n in range(10):
        queue.add("slow", n)
    queue.add("a", 10)
    queue.add("b", 11)
    begun = [queue.begin() for _ in range(5)]
    assert begun == [("slow", 0), ("a", 10), ("b", 11), ("slow", 1), None]
    queue.end("slow")
    assert queue.begin() == ("slow", 2)
    assert queue.begin() is None


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers()), max_size=40),
    st.integers(1, 6),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_all_work_is_begun_once_in_order_and_within_the_limits(
    work: list[tuple[str, int]], at_once: int, of_a_host: int, chance: object
) -> None:
    queue = FairQueue[int](at_once, of_a_host)
    for host, item in work:
        queue.add(host, item)
    done: list[tuple[str, int]] = []
    running: list[str] = []
    while True:
        while (begun := queue.begin()) is not None:
            done.append(begun)
            running.append(begun[0])
        assert len(running) <= at_once
        assert all(count <= of_a_host for count in Counter(running).values())
        if not running:
            break
        queue.end(running.pop(chance.randrange(len(running))))  # type: ignore[attr-defined]
    for host in "abcde":
        assert [i for h, i in done if h == host] == [i for h, i in work if h == host]
