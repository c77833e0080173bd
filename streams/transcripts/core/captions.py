"""Reads WebVTT and SubRip captions, whose times and numbering are mended first.

webvtt-py reads what keeps to the formats. What does not comes out of `_mended` as if it did, so
that a cue is not lost to a comma, a missing hour, number or empty line.
"""

from __future__ import annotations

import html
import re

import webvtt

from streams.text.markup import is_prose
from streams.text.notes import Notes
from streams.transcripts.core.cue_times import of_milliseconds, times_of, words_behind
from streams.transcripts.core.segments import Segment, segment, unroll

_ODD = re.compile(r"\s{0,9}[\[(]?[+-]?[0-9][^>&\r\n]{0,40}-{1,3}(?:>|&gt;)")
_TORN = re.compile(
    r"\s{0,9}(?:[0-9]{1,4}:[0-9:.,]{0,12}[\s-]{0,9}|[0-9]{1,6}[.,]?[0-9]{0,9}\s{0,9}-{1,2}\s{0,9})"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d{1,3})?")
_MARKED_NUMBER = re.compile(r"#(\d{1,9})|(\d{1,9})[.):]")
_LINE_END = re.compile(r"\r{0,9}\n|\r")

_VOICE = re.compile(r"<v(?:\.[^\s>]{0,80})?\s{1,9}([^>]{1,200})>", re.I)
_TAG = re.compile(
    r"(?<!\w)</?[a-zA-Z][^<>]{0,300}\Z|</?(?P<name>[a-zA-Z][^\s.<>/]{0,30})(?P<said>[^<>]{0,300})>"
    r"|<[0-9][0-9:.]{0,20}>|\{\\[^{}]{0,100}\}"
)
_ANNOTATED = ("v", "lang", "c")
"""Tags of cues that words may follow."""
_CAPITAL = r"[A-ZÀ-ÖØ-Þ\u0386-\u03ab\u0400-\u042f]"
_NAME = rf"(?:{_CAPITAL}[\w.'\u2019-]{{0,30}}|[0-9]{{1,3}})"
_NUMBERED = r"(?:[Ss](?:peaker|PEAKER|PK|pk)|spk)[ _-]?(?:[0-9]{1,3}|[A-Z](?![\w']))"
_NAMES = rf"(?:{_NUMBERED}|{_NAME}(?: (?:{_NAME}|&|al|da|de|del|der|di|la|le|van|von)){{0,4}})"
# In brackets a number of a speaker needs no colon; any other word there may be a sound.
_SPEAKER = re.compile(
    rf"(?:(?:-\s)?(?:\[|>>\s?)?({_NAMES})(?:\]:\s*|\]?[ \u00a0\u202f]?:\s+)|\(({_NAMES})\):\s+"
    rf"|[\[(]({_NUMBERED})[\])]\s+)(?=\S)"
)
# Words that stand before a colon, as a name does, but speak for nobody.
_NOBODY = frozenset(
    """
    note, notes, nb, n.b., ps, p.s., warning, caution, important, remember, example, examples, tip,
    hint, fact, rule, lesson, point, disclaimer, spoiler, spoiler alert, update, reminder, summary,
    conclusion, title, subject, source, sources, chapter, part, step, section, episode, season,
    number, translation, subtitles, subtitles by, captions, captions by, music, transcript,
    transcription, http, https, www, link, url, website, email, hinweis, achtung, warnung,
    anmerkung, beispiel, nota, aviso, atención, ejemplo, remarque, attention, exemple,
    avertissement, atenção, exemplo, attenzione, esempio, let op, opmerking, voorbeeld
    """.strip()
    .replace("\n    ", " ")
    .split(", ")
)


def read_vtt(text: str, notes: Notes | None = None) -> list[Segment]:
    """The segments of WebVTT, with or without its header; speakers from voice tags.

    Where no two neighbouring cues repeat a voice, it was named when it changed: it goes on until
    the next one. Without any voice tag, names are looked for as in SubRip. ``notes`` is told what
    was left out or taken for granted.
    """
    notes = Notes() if notes is None else notes
    lines, _ = _mended(text.strip(), notes, numbered=False)
    if not lines[0].startswith("WEBVTT"):
        lines = ["WEBVTT", "", *lines]
    captions = webvtt.WebVTT.from_buffer(lines).captions
    _count_lost(lines, captions, notes)
    said = [(caption, voices) for caption in captions if (voices := _voices(caption.raw_text))]
    if not any(voice for _, voices in said for voice, _ in voices):
        return _named_in_words(captions, notes)
    holds = not _repeats_a_voice([voices for _, voices in said])
    segments, held = [], ""
    for caption, voices in said:
        for voice, words in voices:
            speaker = voice or (held if holds else "")
            if speaker and not voice and words.strip():
                notes.add("a voice that is not repeated goes on until the next one")
            held = speaker or held
            segments.append(segment(*_span(caption), speaker, words))
    return unroll([one for one in segments if one.text])


def _repeats_a_voice(cues: list[list[tuple[str, str]]]) -> bool:
    """Whether somewhere a cue begins with the voice that the cue before it ended with."""
    spoken = [[voice for voice, words in cue if voice or words.strip()] for cue in cues]
    pairs = zip(filter(None, spoken), list(filter(None, spoken))[1:], strict=False)
    return any(before[-1] == after[0] != "" for before, after in pairs)


def read_srt(text: str, notes: Notes | None = None) -> list[Segment]:
    """The segments of SubRip captions; a speaker is named once and goes on until the next.

    Words before a colon are names only where the first cue has one, or several are named.
    ``notes`` is told what was left out.
    """
    notes = Notes() if notes is None else notes
    lines, first = _mended(text.strip(), notes, numbered=True)
    # An empty cue at the end keeps the reader from calling a short file malformed.
    captions = webvtt.WebVTT.from_buffer([*lines[first:], "", ""], format="srt").captions
    _count_lost(lines, captions, notes)
    return _named_in_words(captions, notes)


def _named_in_words(captions: list[webvtt.Caption], notes: Notes) -> list[Segment]:
    spoken = [
        (caption, voice, said.strip(), _name_before(said.strip()))
        for caption in captions
        for voice, stretch in _voices(caption.raw_text)
        for said in _turns(stretch)
    ]
    names = ["" if voice else name for _, voice, _, name in spoken]
    named = bool(names and names[0]) or len({*names} - {""}) > 1
    segments, speaker = [], ""
    for caption, voice, words, name in spoken:
        if voice:
            speaker = voice
        elif named and name:
            speaker, words = name, _SPEAKER.sub("", words, count=1)
            notes.add("speakers from words before a colon or in brackets")
        segments.append(segment(*_span(caption), speaker, words))
    return unroll([said for said in segments if said.text])


def _turns(words: str) -> list[str]:
    """The lines of a cue, those together that one speaker says: a name may begin any of them."""
    turns: list[str] = []
    for line in filter(None, map(str.strip, words.split("\n"))):
        if turns and not (_name_before(turns[-1]) and _name_before(line)):
            turns[-1] += f"\n{line}"
        else:
            turns.append(line)
    return turns


def _span(caption: webvtt.Caption) -> tuple[int, int]:
    return caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds()


def _count_lost(lines: list[str], captions: list[webvtt.Caption], notes: Notes) -> None:
    """Note the cues without words, or of which the reader made nothing."""
    timed = sum(" --> " in line for line in lines)
    lost = timed - sum(bool(_cue_text(caption.raw_text).strip()) for caption in captions)
    if lost > 0:
        notes.add(f"{lost} of {timed} cues without words left out")


def _name_before(words: str) -> str:
    """The name that a line begins with, if any: no number, and no `Note` or `Chapter 3`."""
    found = _SPEAKER.match(words)
    name = next(filter(None, found.groups()), "") if found else ""
    word = name.rstrip("0123456789 ")
    return name if word and word.lower() not in _NOBODY else ""


def _mended(text: str, notes: Notes, *, numbered: bool) -> tuple[list[str], int]:
    """(lines, number of the line with the first cue) in the form that the formats prescribe.

    Each cue has an empty line, its times as `hh:mm:ss.mmm` and, if `numbered`, a number before
    it. Arrows elsewhere are escaped; a cue cut off before its times are complete goes.
    """
    lines: list[str] = []
    cues, first = 0, 0
    odd = 0
    said = _LINE_END.split(text)
    if in_seconds := of_milliseconds(said):
        notes.add("times of whole numbers taken for milliseconds")
    for line in in_seconds or said:
        may_begin = not lines or not lines[-1].strip() or _is_number(lines[-1])
        times = times_of(line, after_blank=may_begin)
        if times is None:
            odd += may_begin and bool(_ODD.match(line))
            lines.append(line.replace("-->", "--&gt;"))
            continue
        _drop_number(lines, cues)
        cues += 1
        lines.append("")
        first = first or len(lines)
        if numbered:
            lines.append(str(cues))
        lines.append(" --> ".join(times))
        if words := words_behind(line):
            lines.append(words.replace("-->", "--&gt;"))
    if odd:
        notes.add(f"{odd} lines with an arrow, but no times, are no cues")
    if len(lines) > 1 and _TORN.fullmatch(lines[-1]) and _is_number(lines[-2]):
        lines.pop()
        _drop_number(lines, cues)
    elif len(lines) > 1 and not lines[-2].strip() and lines[-1].strip() == str(cues + 1):
        lines.pop()
    return lines or [""], first


def _drop_number(lines: list[str], cues: int) -> None:
    """Take off the number of the next cue, which an empty line may part from its times."""
    if not lines:
        return
    marked = _MARKED_NUMBER.fullmatch(lines[-1].strip())
    if _is_number(lines[-1]) or (marked and str(cues + 1) in marked.groups()):
        lines.pop()
    elif len(lines) > 1 and not lines[-1].strip() and lines[-2].strip() == str(cues + 1):
        # Any other number that stands alone, a year perhaps, was said.
        del lines[-2:]


def _is_number(line: str) -> bool:
    """Whether a line numbers a cue; some tools count from below zero, or in halves."""
    return len(line) < 20 and bool(_NUMBER.fullmatch(line.strip()))


def _voices(raw: str) -> list[tuple[str, str]]:
    """The (speaker, text) stretches of a cue; an unclosed voice tag lasts to the next one."""
    parts = _VOICE.split(raw)
    stretches = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [(html.unescape(name).strip().strip('"'), _cue_text(words)) for name, words in stretches]


def _cue_text(raw: str) -> str:
    return html.unescape(_TAG.sub(_left_of_tag, raw))


def _left_of_tag(tag: re.Match[str]) -> str:
    """Nothing of a tag, all of what only looks like one: `if a<b then c>d`."""
    name = (tag["name"] or "").lower()
    prose = name and name not in _ANNOTATED and is_prose(tag["said"], closed=True)
    return tag[0] if prose else ""
