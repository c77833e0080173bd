"""What is told to be over is understood, and nothing else is."""

from __future__ import annotations

import pytest

from schemas.codec import BadRecordError
from streams.engagement.core.closing import HEADER, closed_header, closed_minutes


def test_a_header_tells_minutes_by_source_partition() -> None:
    minutes = {0: 29_453_760, 11: 29_453_759}
    assert closed_minutes(closed_header(minutes)[HEADER]) == minutes
    assert closed_minutes(None) == {}


@pytest.mark.parametrize("value", [b"", b"\xff", b"[1]", b"3", b'{"a": 1}', b'{"1": null}'])
def test_another_header_is_refused(value: bytes) -> None:
    with pytest.raises(BadRecordError, match="closed"):
        closed_minutes(value)
