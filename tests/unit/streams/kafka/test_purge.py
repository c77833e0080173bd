from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.purge import cut

OFFSETS = st.integers(0, 50)


@given(OFFSETS, OFFSETS, OFFSETS, st.lists(st.integers(-1, 100), min_size=1, max_size=4))
def test_nothing_goes_that_is_young_unread_or_the_last_record(
    first: int, records: int, aged: int, committed: list[int]
) -> None:
    end = first + records
    before = cut(first, end, first + aged, committed)
    assert first <= before
    if before > first:
        assert before <= min(committed)
        assert before <= first + aged
        assert before < end


def test_what_everybody_has_read_goes() -> None:
    assert cut(10, 100, 100, [100, 60]) == 60
    assert cut(10, 100, 40, [100, 60]) == 40
    assert cut(10, 100, 100, [100, 100]) == 99


def test_a_reader_that_never_committed_keeps_everything() -> None:
    assert cut(10, 100, 100, [100, -1]) == 10
