from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.core.dates import published_time, read_date

TEN = int(datetime(2024, 1, 1, 10, tzinfo=UTC).timestamp())
HOURS_EAST = {
    "": 0,
    "GMT": 0,
    "Z": 0,
    "+0000": 0,
    "CET": 1,
    "CEST": 2,
    "cest": 2,
    "MESZ": 2,
    "EEST": 3,
    "BST": 1,
    "IST": 5.5,
    "ACST": 9.5,
    "AEDT": 11,
    "NST": -3.5,
    "EST": -5,
    "EDT": -4,
    "PDT": -7,
    "GMT+2": 2,
    "GMT+02:00": 2,
    "GMT +0200": 2,
    "UTC-3": -3,
    "UTC+05:30": 5.5,
    "+02:00": 2,
    "+02:00 (CEST)": 2,
    "CEST +0200": 2,
    "-05": -5,
    "-0500 (EST)": -5,
}


@pytest.mark.parametrize(("zone", "hours"), HOURS_EAST.items())
def test_zones(zone: str, hours: float) -> None:
    for date in ("Mon, 01 Jan 2024 10:00:00", "1 Jan 2024 10:00"):
        assert published_time(f"{date} {zone}") == TEN - hours * 3600


@pytest.mark.parametrize("zone", ["GMT+99", "NOWHERE", "QQT", "B", "Europe/Londn", "local"])
def test_a_date_of_an_unknown_zone_is_none_and_says_so(zone: str) -> None:
    for date in ("Mon, 01 Jan 2024 10:00:00", "2024-01-01 10:00", "Mon Jan 1 10:00:00"):
        seconds, note = read_date(f"{date} {zone}" + (" 2024" if date.startswith("Mon J") else ""))
        assert seconds == 0
        assert note.startswith("no date: its zone")


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "2024-01-01T10:00:00Z": TEN,
        "2024-01-01T12:00:00.000+02:00": TEN,
        "2024-01-01 10:00:00": TEN,
        "2024-01-01": TEN - 36_000,
        "20240101100000": TEN,
        "2024-001": TEN - 36_000,
        "2024-366T10:00:00Z": TEN + 365 * 86_400,
        "2023-366": 0,
        "10:00 UTC, January 1, 2024": TEN,
        "10:00:00 1 Jan 2024": TEN,
        "the 1st of January 2024": TEN - 36_000,
        "1 janvier 2024 10h00": TEN,
        "1 января 2024 года 10:00": TEN,
        "Mon, 1 Jan 2024 10:00:00 G.M.T.": TEN,
        "Mon, 1 Jan 2024 05:00:00 E.S.T.": TEN,
        "segunda-feira, 1 de janeiro de 2024": TEN - 36_000,
        "2024\u5e741\u67081\u65e5 \u4e0a\u534810:00": TEN,
        "2024\u5e741\u67081\u65e5 \u5348\u524d10\u664200\u5206": TEN,
        "2024\ub144 1\uc6d4 1\uc77c \uc624\ud6c4 10:00": TEN + 43_200,
        "\uc6d4, 01 1\uc6d4 2024 19:00:00 +0900": TEN,
        "\u0394\u03b5\u03c5, 01 \u0399\u03b1\u03bd 2024 12:00:00 +0200": TEN,
        "Pzt, 01 Oca 2024 13:00:00 +0300": TEN,
        "01/02/2024": 0,
        "soon": 0,
        "": 0,
        "Mon, 01 Jan 2024 99:99:99 CEST": 0,
    }.items(),
)
def test_forms(text: str, told: int) -> None:
    assert published_time(text) == told


@given(
    st.datetimes(datetime.fromisoformat("1971-01-01"), datetime.fromisoformat("2100-01-01")),
    st.integers(-14 * 60, 14 * 60),
)
def test_every_offset(moment: datetime, minutes: int) -> None:
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    wanted = int(moment.replace(tzinfo=UTC).timestamp()) - minutes * 60
    for form in (f"GMT{sign}{hours}:{rest:02}", f"{sign}{hours:02}{rest:02}"):
        assert published_time(f"{moment:%d %b %Y %H:%M:%S} {form}") == wanted
