"""Dates as feeds write them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from streams.ingest.core.episodes import utc_time

# RFC 822 names UT, GMT and the American zones, which the parser of mail knows; publishers write
# others. Where a name has several meanings, that of most shows counts: BST is British Summer Time,
# not Bangladesh's or Bougainville's, IST is India's, not Ireland's or Israel's; AST and CST are
# American ones, as RFC 822 has them.
_ZONES = {
    **{"WET": "+0000", "WEST": "+0100", "BST": "+0100", "CET": "+0100", "MEZ": "+0100"},
    **{"CEST": "+0200", "MESZ": "+0200", "EET": "+0200", "SAST": "+0200", "EEST": "+0300"},
    **{"MSK": "+0300", "PKT": "+0500", "IST": "+0530", "AWST": "+0800", "HKT": "+0800"},
    **{"SGT": "+0800", "JST": "+0900", "KST": "+0900", "ACST": "+0930", "AEST": "+1000"},
    **{"ACDT": "+1030", "AEDT": "+1100", "NZST": "+1200", "NZDT": "+1300", "NDT": "-0230"},
    **{"NST": "-0330", "BRT": "-0300", "ART": "-0300", "AKDT": "-0800", "AKST": "-0900"},
    **{"HST": "-1000"},
}
_CLOCK_AND_ZONE = re.compile(
    r"(\d:\d\d(?:\.\d{1,9})?)\s{0,9}([A-Za-z]{1,5})?\s{0,9}"
    r"(?:([+-])(\d\d?)(?::?(\d\d))?)?\s{0,9}(?:\([^()]{0,40}\))?\Z"
)
_MOST_HOURS = 14


def published_time(text: str) -> int:
    """Unix seconds of a date as RSS or Atom write it, UTC unless it says; 0 if of no use.

    Zones may be offsets, names, or both as in `GMT+2`, which is east of Greenwich.
    """
    text = text.strip()[:100]
    as_mail = _CLOCK_AND_ZONE.sub(_with_offset, text)
    for parse, written in ((datetime.fromisoformat, text), (parsedate_to_datetime, as_mail)):
        # The parser of mail lets more kinds of error out than it says.
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            moment = parse(written)
            seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
            return seconds if utc_time(seconds) else 0
    return 0


def _with_offset(found: re.Match[str]) -> str:
    """A clock with its zone as mail has it: four digits; any other zone stays as it is."""
    clock, name, sign, hours, minutes = found.groups()
    if sign and int(hours) <= _MOST_HOURS:
        return f"{clock} {sign}{int(hours):02}{minutes or '00'}"
    offset = _ZONES.get((name or "").upper())
    return f"{clock} {offset}" if offset and not sign else found[0]
