from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.core.durations import duration_s

HOUR = 3_723


@pytest.mark.parametrize(
    ("text", "seconds"),
    {
        **dict.fromkeys(("1:02:03", "62:03", "3723", "3723.9", "1:2:3", " 01:02:03.500 "), HOUR),
        **dict.fromkeys(("1h2m3s", "1 hr 2 mins 3 secs", "PT1H2M3S", "pt62m3s", "3,723"), HOUR),
        **dict.fromkeys(("62'03\"", "1 hour, 2 minutes and 3 seconds", "00:62:03,000"), HOUR),
        **{"0": 0, "0:00:00": 0, "61.08": 61, "1.5h": 5_400, "90 minutes": 5_400, "2 Std": 7_200},
        **dict.fromkeys(("", "about an hour", "1:02:03:00", "-5", "1:02 pm", "h", "pt", "9" * 70)),
    }.items(),
)
def test_lengths_of_time(text: str, seconds: int | None) -> None:
    assert duration_s(text) == seconds


@given(st.integers(0, 10**5), st.integers(0, 59), st.integers(0, 59))
def test_every_clock_is_read_as_it_is(hours: int, minutes: int, seconds: int) -> None:
    whole = (hours * 60 + minutes) * 60 + seconds
    assert duration_s(f"{hours}:{minutes:02}:{seconds:02}") == whole
    assert duration_s(f"{hours}h{minutes}m{seconds}s") == whole
    assert duration_s(str(whole)) == whole
