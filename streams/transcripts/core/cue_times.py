"""The times of captions, however they are spelled, as the formats have them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from streams.transcripts.core.segments import clock_ms

# Below a minute some hosts write the seconds alone; with a fraction, or what was said counts.
_TIME = (
    r"-?(?:[0-9]{1,4}[:\uff1a][0-9]{1,2}[0-9.,:;\uff0c\uff1a\uff0e]{0,14}"
    r"|[0-9]{1,6}[.,\uff0c\uff0e][0-9]{1,9})"
)
_WIDE_SIGNS = str.maketrans("\uff0c\uff1a\uff0e", ",:.")
_ARROW = r"[ \t]{0,9}-{1,3}(?:>|&gt;)[ \t]{0,9}"
_WHOLE = r"[0-9]{1,6}"
_TIMING = re.compile(
    rf"(?:\A|[\r\n])[ \t]{{0,9}}"
    rf"(?:({_TIME}){_ARROW}({_TIME}|{_WHOLE})?|({_WHOLE}){_ARROW}({_TIME}))"
)
# What other programs write for it: other arrows, brackets, blanks, units, wide digits.
_OTHER_ARROW = re.compile(
    r"[ \t]{0,9}(?:[-=\u2010-\u2015\u2212]{1,3}(?:>|&gt;)|\u2192|\u21d2|\u27f6)[ \t]{0,9}"
)
_OTHER_TIME = re.compile(r"\+?(-?[0-9.,:;\s]{1,40}?)\s?(s|ms)?", re.I)
_NEGATIVE_PART = re.compile(r"[0-9:]{1,12}-[0-9:.,-]{1,20}")
_ONLY_WHOLE = re.compile(rf"\s{{0,9}}({_WHOLE})\s{{0,9}}-->\s{{0,9}}({_WHOLE})\s{{0,9}}")
_FULL = r"[0-9]{1,3}:[0-9]{2}:[0-9]{2}"
_WHOLE_OF_ANY_UNIT = re.compile(r"\s{0,9}([0-9]{1,8})\s{0,9}-->\s{0,9}([0-9]{1,8})\s{0,9}")
_PAIR = re.compile(
    rf"\s{{0,9}}(?:({_FULL}\.[0-9]{{1,3}}),({_FULL}\.[0-9]{{1,3}})"
    rf"|({_FULL}[.,][0-9]{{1,3}})\s{{1,9}}[-\u2013]\s{{1,9}}({_FULL}[.,][0-9]{{1,3}}))\s{{0,9}}"
)
_SETTINGS = re.compile(r"\s{1,9}[a-z]{1,20}:\S.{0,200}\Z", re.I)
_HAS_ARROW = re.compile(r">|&gt;|[\u2192\u21d2\u27f6]")
_LONGEST = 400
_LONGEST_CUE_S = 120
# Blanks are no part of a time but beside its signs: `00: 00: 01, 000`, or before its milliseconds.
_BLANK_OF_TIME = re.compile(r"\s+(?=[.,:;])|(?<=[.,:;])\s+|(?<=:\d\d)\s(?=\d{3}\Z)")
_NUMBER_BEFORE = re.compile(r"\s{0,9}#?[0-9]{1,6}[.):]?\s{1,9}(?=[0-9]{1,3}:[0-9]{2}:[0-9]{2}[.,])")
_IN_BRACKETS = re.compile(
    r"\s{0,9}\[([0-9:.,]{4,16}\s{0,9}-->\s{0,9}[0-9:.,]{4,16})\]\s{0,9}(.*)", re.S
)
_BEHIND = re.compile(rf"\s{{0,9}}{_TIME}{_ARROW}{_TIME}(?=\s)(.*)", re.S)
_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9]{0,20}:\S+")


def first_timing(text: str, *, captions: bool = False) -> str:
    """The line of times of the first cue in a text without a header, or ''.

    Times in brackets before what is said, or of whole numbers alone, are those of cues only where
    ``captions`` are announced.
    """
    found = _TIMING.search(text)
    if found:
        return found.group()
    lines = (line for line in text.splitlines() if captions or not _IN_BRACKETS.fullmatch(line))
    return next((line for line in lines if times_of(line, after_blank=captions)), "")


def times_of(line: str, *, after_blank: bool) -> tuple[str, str] | None:
    """Start and end of the cue that a line begins, as `hh:mm:ss.mmm`; None if it begins none.

    Without an end it is 0. Whole numbers alone are seconds only ``after_blank``: where the line
    before is empty or a number, and a cue may begin.
    """
    line = _NUMBER_BEFORE.sub("", line, count=1)
    if bracketed := _IN_BRACKETS.fullmatch(line):
        line = bracketed[1]
    if timing := _TIMING.match(line):
        return _time(timing[1] or timing[3]), _time(timing[2] or timing[4] or "0:00")
    if len(line) > _LONGEST:
        return None
    if pair := _PAIR.fullmatch(line):
        return _time(pair[1] or pair[3]), _time(pair[2] or pair[4])
    if not _HAS_ARROW.search(line):
        return None
    if whole := _ONLY_WHOLE.fullmatch(line):
        return (_time(f"{whole[1]}.0"), _time(f"{whole[2]}.0")) if after_blank else None
    plain = unicodedata.normalize("NFKC", _SETTINGS.sub("", line)).strip().strip("[]()")
    ends = _OTHER_ARROW.split(plain)
    if len(ends) != 2:
        return None
    start, end = map(_plain_time, ends)
    again = _TIMING.fullmatch(f"{start} --> {end}") if start and end else None
    return (_time(again[1] or again[3]), _time(again[2] or again[4])) if again else None


def of_milliseconds(lines: Sequence[str]) -> list[str] | None:
    """The lines with seconds where times of whole numbers must be milliseconds; else None.

    As seconds, half of the cues would last for minutes.
    """
    found = [_WHOLE_OF_ANY_UNIT.fullmatch(line) for line in lines]
    lasting = sorted(int(whole[2]) - int(whole[1]) for whole in found if whole)
    if not lasting or lasting[len(lasting) // 2] < _LONGEST_CUE_S:
        return None
    return [
        f"{int(whole[1]) / 1000:.3f} --> {int(whole[2]) / 1000:.3f}" if whole else line
        for line, whole in zip(lines, found, strict=True)
    ]


def words_behind(line: str) -> str:
    """What is said on the line of a cue's times, behind them; settings are no words."""
    found = _IN_BRACKETS.fullmatch(line)
    behind = found or _BEHIND.fullmatch(_NUMBER_BEFORE.sub("", line, count=1))
    words: str = behind[behind.re.groups].strip() if behind else ""
    return "" if found is None and all(map(_SETTING.fullmatch, words.split())) else words


def _plain_time(text: str) -> str:
    """A time without blanks, sign and unit; empty if it is none."""
    if _NEGATIVE_PART.fullmatch(text.strip()):
        return "-0:00"
    found = _OTHER_TIME.fullmatch(text.strip())
    if not found:
        return ""
    digits, unit = _BLANK_OF_TIME.sub("", found[1]), (found[2] or "").lower()
    if unit == "ms":
        return f"{int(digits) / 1000:.3f}" if digits.isdigit() else ""
    if unit == "s" and digits.isdigit():
        return f"{digits}.0"
    return f"0{digits}" if digits.startswith((".", ",")) else digits


def _time(text: str) -> str:
    """A time as both formats have it; before the start is at the start."""
    plain = text.translate(_WIDE_SIGNS)
    found = None
    if not plain.startswith("-"):
        found = clock_ms(plain) if ":" in plain else _seconds_ms(plain)
    seconds, ms = divmod(found or 0, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def _seconds_ms(text: str) -> int:
    """Seconds without minutes, such as `0.860` or `7`, in milliseconds."""
    whole, _, fraction = text.replace(",", ".").partition(".")
    return int(whole) * 1000 + int(fraction.ljust(3, "0")[:3])
