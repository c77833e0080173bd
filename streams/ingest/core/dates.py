"""Dates as feeds write them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.ingest.core.episodes import utc_time
from streams.ingest.core.months import month_name, month_number

# RFC 822 names UT, GMT and the American zones; publishers write others. Where a name has several
# meanings, that of most shows counts: BST is British Summer Time, not Bangladesh's or
# Bougainville's, IST is India's, not Ireland's or Israel's, GST that of the Gulf; AST and CST are
# American ones, as RFC 822 has them. Minutes east of Greenwich.
_ZONES = {
    **dict.fromkeys(("Z", "UT", "UTC", "GMT", "WET"), 0),
    **{"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360},
    **{"PST": -480, "PDT": -420, "AST": -240, "ADT": -180},
    **{"WEST": 60, "BST": 60, "CET": 60, "MEZ": 60, "CEST": 120, "MESZ": 120, "EET": 120},
    **{"SAST": 120, "EEST": 180, "MSK": 180, "PKT": 300, "IST": 330, "AWST": 480, "HKT": 480},
    **{"SGT": 480, "JST": 540, "KST": 540, "ACST": 570, "AEST": 600, "ACDT": 630, "AEDT": 660},
    **{"NZST": 720, "NZDT": 780, "NDT": -150, "NST": -210, "BRT": -180, "ART": -180},
    **{"AKDT": -480, "AKST": -540, "HST": -600, "BRST": -120, "CLT": -240, "COT": -300},
    **{"PET": -300, "VET": -240, "WAT": 60, "CAT": 120, "EAT": 180, "TRT": 180, "IDT": 180},
    **{"GST": 240, "WIB": 420, "ICT": 420, "PHT": 480, "MYT": 480, "WITA": 480, "CHST": 600},
    **{"GREENWICH MEAN": 0, "COORDINATED UNIVERSAL": 0, "BRITISH SUMMER": 60},
    **{"CENTRAL EUROPEAN STANDARD": 60, "CENTRAL EUROPEAN SUMMER": 120, "INDIA STANDARD": 330},
    **{"JAPAN STANDARD": 540, "KOREA STANDARD": 540},
}
# Names that say winter and summer alike: the date decides.
_PLACES = {
    **{"ET": "America/New_York", "EASTERN": "America/New_York", "CT": "America/Chicago"},
    **{"CENTRAL": "America/Chicago", "MT": "America/Denver", "MOUNTAIN": "America/Denver"},
    **{"CENTRAL EUROPEAN": "Europe/Berlin", "EASTERN EUROPEAN": "Europe/Athens"},
    **{"PT": "America/Los_Angeles", "PACIFIC": "America/Los_Angeles", "AKT": "America/Anchorage"},
}
_WEEKDAYS = frozenset(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
_CLOCK = (
    r"(?:(?P<hour>\d{1,2})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d)(?:[.,]\d{1,9})?)?"
    r"(?:\s{0,9}(?P<half>[ap])\.?m\b\.?)?|(?P<full_hour>\d{1,2})\s{0,9}(?P<full_half>[ap])\.?m\b\.?)"
)
_ZONE = (
    r"(?P<zone>[a-z]{1,20}(?:[/_ -][a-z]{1,20}){0,3})?\s{0,9}"
    r"(?:(?P<sign>[+\u2212-])(?P<east_hours>\d\d?)(?::?(?P<east_minutes>\d\d))?)?"
    r"\s{0,9}(?:\((?P<comment>[^()]{0,40})\)|[a-z]{1,5})?"
)
_TIME = rf"(?:(?:\s{{1,9}}|t|\s{{1,9}}(?:at|um|a|à|-)\s{{1,9}}){_CLOCK})?\s{{0,9}}{_ZONE}"
_MONTH = r"(?P<month>[^\W\d_]{3,12})\.?"
_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<number>\d\d?)(?P=mark)(?P<day>\d\d?){_TIME}",
        rf"(?P<day>\d\d?)(?:st|nd|rd|th|\.)?[\s-]{{0,9}}(?:(?:de|of)\s)?{_MONTH}[\s-]{{0,9}}(?:de\s)?"
        rf"(?P<year>\d{{4}}|\d\d(?![\d:]))(?![\d:]){_TIME}",
        rf"{_MONTH}\s{{0,9}}(?P<day>\d\d?)(?:st|nd|rd|th)?\s{{1,9}}(?P<year>\d{{4}})(?![\d:]){_TIME}",
        rf"{_MONTH}\s{{1,9}}(?P<day>\d\d?)\s{{1,9}}{_CLOCK}\s{{0,9}}"
        rf"(?:(?P<zone>[a-z]{{1,20}})|(?P<sign>[+-])(?P<east_hours>\d\d)(?P<east_minutes>\d\d))?"
        r"\s{0,9}(?P<year>\d{4})",
        rf"(?P<one>\d\d?)(?P<mark>[/.-])(?P<two>\d\d?)(?P=mark)(?P<year>\d{{4}}){_TIME}",
    )
]
_WEEKDAY = re.compile(r"\(?([^\W\d_]{2,12}|[^\W\d_a-zA-Z])(?:-feira)?\)?\.?(?:\s{1,9}|(?=\d))")
_HALVES = {
    **dict.fromkeys(("\u4e0a\u5348", "\u5348\u524d", "\uc624\uc804"), "AM"),
    **dict.fromkeys(("\u4e0b\u5348", "\u5348\u5f8c", "\uc624\ud6c4"), "PM"),
}
"""Of Chinese, Japanese and Korean clocks, before the hour."""
_EAST_ASIAN_CLOCK = re.compile(
    rf"(?:({'|'.join(_HALVES)})\s?)?(\d\d?)\s?(?:[時时點点시]\s?(?:(\d\d?)\s?[分분])?|:(\d\d))"
)
_EAST_ASIAN_MONTH = re.compile(r"(?<=\d )(\d\d?)\s?[月월](?= \d{4})")
_EAST_ASIAN = re.compile(r"(\d{4})\s?[年년]\s?(\d\d?)\s?[月월]\s?(\d\d?)\s?[日일]?")
_CLOCK_WORD = re.compile(r"(?<=\d)\s{0,9}(?:uhr|hrs?|h)\b", re.I)
_BETWEEN_HOURS = re.compile(r"(?<=\d)\s?h\s?(?=\d\d(?!\d))", re.I)
_YEAR_WORD = re.compile(r"(?<=\d{4}) (?:\u0433\.?|года|\u0440\.|року)(?= |\Z)")
_POINTED_ZONE = re.compile(r"\b([A-Z])\.([A-Z])\.(?:([A-Z])\.)?(?= |\Z)")
_CLOCK_FIRST = re.compile(
    r"(\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?: ?[ap]\.?m\b\.?)?(?: [A-Z]{2,5})?) (.+)", re.I
)
_DIGITS_ONLY = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")
_DAY_OF_YEAR = re.compile(r"\d{4}-\d{3}(?=T|\Z)")
_UNIX_TIME = re.compile(r"[0-9]{10}(?:\.[0-9]{1,9})?|[0-9]{13}|[0-9]{16}")
_PLACE_BEHIND = re.compile(r"\[[\w/]{1,40}\]\Z")
_MOST_HOURS = 14
_LONGEST = 100


class Dated(NamedTuple):
    """A date as it was read: Unix seconds, 0 for none; what was guessed, or why there is none."""

    seconds: int
    note: str = ""


class _UnknownZoneError(ValueError):
    pass


def published_time(text: str) -> int:
    """Unix seconds of a date as feeds write them; 0 if of no use (`read_date`)."""
    return read_date(text).seconds


def read_date(text: str) -> Dated:
    """A date as RSS, Atom or somebody's template write it; UTC where no zone is given.

    Zones may be offsets, names, places (`America/New_York`), or name and offset as in `GMT+2`,
    which is east of Greenwich. A date of a zone that is not known is none, and the note says so:
    to guess would be hours off. Days and months in figures are read where only one order is
    possible.
    """
    text = _PLACE_BEHIND.sub("", text.strip()[:_LONGEST])
    if not text:
        return Dated(0)
    moment, note = _moment(text)
    if moment is None:
        return Dated(0, note or f"no date: {text[:60]!r}")
    with suppress(OverflowError, ValueError):
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        if utc_time(seconds):
            return Dated(seconds, note)
    return Dated(0, f"no date: {text[:60]!r} is out of range")


def _moment(text: str) -> tuple[datetime | None, str]:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment, "" if moment.tzinfo or len(text) <= len("2024-01-01") else _no_zone()
    if _UNIX_TIME.fullmatch(text):
        seconds = int(text[:10])
        return datetime.fromtimestamp(seconds, UTC), "date read as Unix time"
    if digits := _DIGITS_ONLY.fullmatch(text):
        text = "{}-{}-{} {}:{}:{}".format(*digits.groups())
    with suppress(ValueError):
        # Python reads all of ISO 8601 but days of the year.
        if _DAY_OF_YEAR.match(text):
            day = datetime.strptime(f"{text[:8]}Z", "%Y-%j%z")
            # The last day of a leap year is, in others, the first of the next one.
            text = f"{day:%Y-%m-%d}{text[8:]}" if f"{day:%Y}" == text[:4] else text
    plain = _plain(text)
    found = _form_of(_without_weekday(plain))
    if found is None and (clock := _CLOCK_FIRST.fullmatch(plain)):
        found = _form_of(f"{_without_weekday(clock[2])} {clock[1]}")
    if found is not None:
        return _moment_of(found)
    return _moment_of_mail(text)


def _plain(text: str) -> str:
    """A date without commas and words around its figures, and in the order of Europe."""
    text = _EAST_ASIAN_CLOCK.sub(_european_clock, _EAST_ASIAN.sub(r"\1-\2-\3 ", text))
    text = _YEAR_WORD.sub("", " ".join(text.replace(",", " ").split()))
    text = _EAST_ASIAN_MONTH.sub(lambda month: month_name(int(month[1])), text)
    return _POINTED_ZONE.sub(
        lambda zone: "".join(filter(None, zone.groups())),
        _CLOCK_WORD.sub("", _BETWEEN_HOURS.sub(":", text)),
    )


def _european_clock(clock: re.Match[str]) -> str:
    half = f" {_HALVES[clock[1]]}" if clock[1] else ""
    return f"{clock[2]}:{clock[3] or clock[4] or '0':0>2}{half}"


def _unknown(zone: str) -> str:
    return f"no date: its zone {zone[:40]!r} is not known"


def _no_zone() -> str:
    return "date without a zone read as UTC"


def _without_weekday(text: str) -> str:
    """The text without a word before the date that is no month, such as a day of the week."""
    word = _WEEKDAY.match(text)
    if word and (not month_number(word[1]) or word[1][:3].lower() in _WEEKDAYS):
        return text[word.end() :]
    if word and text[word.end() : word.end() + 1].isdigit():
        # `mar 5 mars 2024`: a day of the week that reads like a month.
        after = _FORMS[1].fullmatch(text, word.end())
        if after and month_number(after["month"]):
            return text[word.end() :]
    return text


def _form_of(text: str) -> re.Match[str] | None:
    for form in _FORMS:
        found = form.fullmatch(text)
        if found and (not found.groupdict().get("month") or month_number(found["month"])):
            return found
    return None


def _moment_of(found: re.Match[str]) -> tuple[datetime | None, str]:
    said = found.groupdict()
    year = int(said["year"])
    if len(said["year"]) == 2:
        year += 2000 if year < 69 else 1900
    if said.get("one"):
        one, two = int(said["one"]), int(said["two"])
        if one != two and max(one, two) <= 12:
            return None, ""
        month, day = (two, one) if one > 12 else (one, two)
    else:
        month = month_number(said.get("month") or "") or int(said.get("number") or 0)
        day = int(said["day"])
    clock = _clock(said)
    if clock is None:
        return None, ""
    hour, minute, second = clock
    try:
        midnight = datetime(year, month, day, tzinfo=UTC).replace(tzinfo=None)
        moment = midnight + timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):
        return None, ""
    has_clock = bool(said.get("hour") or said.get("full_hour"))
    if said.get("sign") and not has_clock:
        return None, ""
    try:
        zone = _zone(said)
    except _UnknownZoneError as error:
        return None, _unknown(str(error))
    note = "" if zone or not has_clock else _no_zone()
    return moment.replace(tzinfo=zone), note


def _clock(said: dict[str, Any]) -> tuple[int, int, int] | None:
    """Hour, minute and second of a clock of 24 hours or of twice 12; None if there is no such."""
    hour = int(said.get("hour") or said.get("full_hour") or 0)
    minute, second = int(said.get("minute") or 0), int(said.get("second") or 0)
    half = (said.get("half") or said.get("full_half") or "").lower()
    if half and 1 <= hour <= 12:
        hour = hour % 12 + (12 if half == "p" else 0)
    # `13:05 PM` says nothing but its hour; 24:00 is the end of the day, :60 a leap second.
    midnight = hour == 24 and not minute and not second
    fits = (hour < 24 or midnight) and minute < 60 and second <= 60
    return (hour, minute, min(second, 59)) if fits else None


def _zone(said: dict[str, Any]) -> tzinfo | None:
    name = (said.get("zone") or "").strip()
    if sign := said.get("sign"):
        hours, minutes = int(said["east_hours"] or 0), int(said.get("east_minutes") or 0)
        if hours > _MOST_HOURS or minutes > 59:
            raise _UnknownZoneError(f"{name}{sign}{hours}")
        if name and _ZONES.get(name.upper()) != 0:
            # `EST-0500` says it twice; anything else would add up to something nobody meant.
            named = _zone_by_name(name)
            if not isinstance(named, timezone):
                raise _UnknownZoneError(f"{name}{sign}{hours}")
        east = timedelta(hours=hours, minutes=minutes)
        return timezone(east if sign == "+" else -east)
    if name:
        return _zone_by_name(name)
    comment = (said.get("comment") or "").strip()
    return _zone_by_name(comment) if comment else None


def _zone_by_name(name: str) -> tzinfo:
    words = list(dict.fromkeys(name.upper().replace("-", " ").split()))
    if len(words) > 1 and words[-1] == "TIME":
        words.pop()
    if len(words) == 2 and words[1] in ("STANDARD", "DAYLIGHT", "SUMMER"):
        initial = {"EASTERN": "E", "CENTRAL": "C", "MOUNTAIN": "M", "PACIFIC": "P"}.get(words[0])
        words = [f"{initial}{'S' if words[1] == 'STANDARD' else 'D'}T"] if initial else words
    known = " ".join(words)
    if known in _ZONES:
        return timezone(timedelta(minutes=_ZONES[known]))
    place = _PLACES.get(known) or (name if "/" in name else "")
    try:
        return ZoneInfo(place.replace(" ", "_"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _UnknownZoneError(name) from None


def _moment_of_mail(text: str) -> tuple[datetime | None, str]:
    """What the parser of mail makes of other orders; none where it would pass over a word."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        # The parser of mail lets more kinds of error out than it says.
        return None, ""
    words = re.findall(r"[^\W\d_]+", text)
    unread = [w for w in words if not month_number(w) and w[:3].lower() not in _WEEKDAYS | {"t"}]
    if any(w.lower() in ("am", "pm") for w in unread):
        return None, ""
    if unread and not moment.tzinfo:
        return None, _unknown(unread[-1])
    return moment, "" if moment.tzinfo else _no_zone()
