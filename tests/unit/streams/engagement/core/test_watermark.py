"""What is told to be over is understood, and nothing else is."""

from __future__ import annotations

import pytest

from schemas.codec import BadRecordError
from streams.engagement.core.watermark import HEADER, read_watermarks, watermark_header


def test_a_header_tells_minutes_by_source_partition() -> None:
    minutes = {0: 29_453_760, 11: 29_453_759}
    assert read_watermarks(watermark_header(minutes)[HEADER]) == minutes
    assert read_watermarks(None) == {}


@pytest.mark.parametrize("value", [b"", b"\xff", b"[1]", b"3", b'{"a": 1}', b'{"1": null}'])
def test_another_header_is_refused(value: bytes) -> None:
    with pytest.raises(BadRecordError, match="closed"):
        read_watermarks(value)
