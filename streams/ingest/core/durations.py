"""Lengths of time as feeds and tables write them."""

from __future__ import annotations

import re
import unicodedata

_CLOCK = re.compile(
    r"(?:(?P<hours>\d{1,6}):)?(?P<minutes>\d{1,6}):(?P<seconds>\d\d?)(?:[.,]\d{1,9})?"
    r"(?:\s?(?:h|hrs?|hours?|min|mins|minutes?))?"
)
_SECONDS = re.compile(r"(\d{1,18})(?:\.\d{1,9})?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3}){1,3}")
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_UNITS = re.compile(
    rf"(?:p?t?|p0dt)(?:(?P<hours>{_NUMBER})\s?(?:hours?|hrs?|std|h)[\s,]{{0,9}}(?:and\s)?)?"
    rf"(?:(?P<minutes>{_NUMBER})\s?(?:minutes?|mins?|min\.|m|'|\u2032|$)[\s,]{{0,9}}(?:and\s)?)?"
    rf"(?:(?P<seconds>{_NUMBER})\s?(?:seconds?|secs?|sec\.|sek|s|\"|''|\u2033))?"
)


def duration_s(text: str) -> int | None:
    """Whole seconds of a length of time; None if it is none.

    It may be a clock (`1:02:03`, `62:03`), seconds (`3723`, `3723.5`, `3,723`), or have units
    (`1h2m`, `62 min`, `1 hour and 2 minutes`, `PT1H2M3S`). A number without a unit is seconds.
    """
    plain = unicodedata.normalize("NFKC", text.strip()[:60]).lower()
    if found := _CLOCK.fullmatch(plain):
        hours, minutes = int(found["hours"] or 0), int(found["minutes"])
        return (hours * 60 + minutes) * 60 + int(found["seconds"])
    if found := _SECONDS.fullmatch(plain):
        return int(found[1])
    if _THOUSANDS.fullmatch(plain):
        return int(plain.replace(",", ""))
    found = _UNITS.fullmatch(plain)
    if found and any(found.groups()) and not plain.isdigit():
        parts = (float(found[name] or 0) for name in ("hours", "minutes", "seconds"))
        return round(sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)))
    return None
