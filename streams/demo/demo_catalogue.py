"""The catalogue that the demo index serves: shows, episodes and what is said in them.

Everything follows from a seed: the same seed gives the same catalogue, word for word. An
episode either exists when the index starts or is released later, while it runs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from streams.demo.demo_shows import SHOWS, Show
from streams.demo.demo_vocabulary import SUBJECTS, Subject

FIRST_FEED_ID = 990_000_001
FIRST_EPISODE_ID = 990_000_000_001
"""Ids far above those that PodcastIndex has given out, so that a demo never meets a real show."""

SHARE_AT_START = 0.6
MIN_WORDS = 330
MS_A_WORD = 375
"""About 160 words a minute, the speed of a conversation."""

DAY_S = 86_400
FORMATS = ("vtt", "srt", "json", "html", "text")

_BY_NAME = {subject.name: subject for subject in SUBJECTS}
_SMALL_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with")
)

_TITLES = (
    "The Trouble with {A}",
    "What {A} Can Teach Us About {B}",
    "{A}, Explained Slowly",
    "Why {A} Will Always Matter to {People}",
    "A Short Course in {A}",
    "{A} and {B}",
    "Everything We Got Wrong About {A}",
    "Inside the World of {A}",
    "{A}: A Love Story",
    "The Secret Life of {A}",
    "How {A} Changed the {Noun}",
    "Before {A} There Was the {Noun}",
    "Listener Questions: {A} and {B}",
    "Who Is Afraid of {A}?",
    "{A}, from the Beginning",
    "The Night {People} Met {A}",
)

_QUESTIONS = (
    "So where does a person even begin with {t}?",
    "I keep hearing {people} argue about {t}, so who is right?",
    "What did you expect of {t} before you saw the {noun} yourself?",
    "Is it fair to say that, with {t}, it always comes down to {adj_noun}?",
    "Let me stop you there: are we still on {t}, or already on {u}?",
    "A listener wrote in to ask how {people} deal with {t}.",
    "Did anybody warn you about the {noun}, or about {t}?",
    "And how do you {verb} when the {noun} is against you?",
    "Help me understand the {noun} in all of this.",
    "When did you first hear of {t}?",
)

_ANSWERS = (
    "The first thing to know about {t} is the {noun}, because everything else depends on it.",
    "Most {people} I know would rather {verb} twice than trust {adj_noun}.",
    "You look at the {noun}, then at the {noun2}, and suddenly you can make sense of {t}.",
    "We had to {verb}, then {verb2}, and only after that could we talk about the {noun}.",
    "There is {adj_noun} behind almost every story about {t}.",
    "I spent a whole winter on {t}, with {adj_noun} and a very thick notebook.",
    "People forget that {t} and {u} grew out of the same {noun}.",
    "If you {verb} too early, the {noun} will tell you so.",
    "Ask {people}, and they will say the {noun} matters more than the {noun2}.",
    "What surprised me about {t} was how {adj} it all felt.",
    "Nobody teaches you to {verb}; you learn it from {people} with more patience than you.",
    "The {noun} looked {adj}, and for {t} that is usually a good sign.",
    "Without {t} there would be no {noun}, and certainly no {noun2}.",
    "It was {adj_noun} that made us take {t} seriously.",
    "You can {verb} all day and still miss the point of {t}.",
    "My favourite example is the {noun} that turned out to be {adj} after all.",
    "Once you have seen {t} up close, you look at {u} with other eyes.",
    "Some {people} swear by the {noun}; others only want to {verb} and go home.",
    "It helps to {verb} a little every day, and to keep an eye on the {noun}.",
    "With {t}, the prize goes to those who {verb} carefully and distrust the {adj} answer.",
    "The {noun2} came first, the {noun} came later, and {t} came out of both.",
    "I would put {t} next to {u} on any list of things worth knowing.",
)


@dataclass(frozen=True)
class Line:
    """One sentence of a transcript, with its time in milliseconds."""

    start_ms: int
    end_ms: int
    speaker: str
    text: str


@dataclass(frozen=True)
class DemoShow:
    """A show as the index lists it. ``trend`` is its trending score, highest first."""

    feed_id: int
    show: Show
    subjects: tuple[Subject, ...]
    explicit: bool
    trend: int


@dataclass(frozen=True)
class DemoEpisode:
    """An episode. One of ``age_s`` (at the start of the index) and ``release`` (its place in the
    queue of those that come later, from 0) is set. ``duration_s`` is None for a live one."""

    episode_id: int
    feed_id: int
    number: int
    season: int
    title: str
    description: str
    duration_s: int | None
    age_s: int | None
    release: int | None
    formats: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Catalogue:
    """Shows by feed id; episodes by id, in order of their ids."""

    shows: dict[int, DemoShow]
    episodes: dict[int, DemoEpisode]


@lru_cache(maxsize=2)
def build_catalogue(seed: int = 7) -> Catalogue:
    """The catalogue of a seed."""
    order = random.Random(f"{seed}:trend")
    ranks = order.sample(range(len(SHOWS)), len(SHOWS))
    shows = {
        FIRST_FEED_ID + index: DemoShow(
            FIRST_FEED_ID + index,
            show,
            tuple(_BY_NAME[name] for name in (show.subject, show.second) if name),
            explicit=show.subject == "True Crime",
            trend=round(1000 / (1 + ranks[index])),
        )
        for index, show in enumerate(SHOWS)
    }
    drafts = [_draft_show(seed, show) for show in shows.values()]
    releases = _release_order(seed, [sum(e.age_s is None for e in group) for group in drafts])
    episodes: dict[int, DemoEpisode] = {}
    for group, places in zip(drafts, releases, strict=True):
        later = iter(places)
        for draft in group:
            released = next(later) if draft.age_s is None else None
            episode_id = FIRST_EPISODE_ID + len(episodes)
            episodes[episode_id] = _finish(draft, episode_id, released)
    return Catalogue(shows, episodes)


@dataclass(frozen=True)
class _Draft:
    show: DemoShow
    number: int
    season: int
    title: str
    description: str
    duration_s: int
    age_s: int | None
    lines: tuple[Line, ...]


def _draft_show(seed: int, show: DemoShow) -> list[_Draft]:
    """The episodes of a show, oldest first."""
    dice = random.Random(f"{seed}:{show.feed_id}")
    count = 9 + show.feed_id % 3
    at_start = round(SHARE_AT_START * count)
    cadence_days = dice.choice((2, 3, 4, 7, 7, 10))
    seasons = dice.random() < 0.5
    templates = dice.sample(_TITLES, count)
    drafts = []
    for index in range(count):
        # Each pair of terms comes once: neighbours in a shuffled circle of the show's terms.
        terms = (show.show.terms[index % 10], show.show.terms[(index * 3 + 1 + index // 10) % 10])
        if terms[0] == terms[1]:
            terms = (terms[0], show.show.terms[(index + 4) % 10])
        voice = _Voice(dice, show, terms)
        age_days = (at_start - 1 - index) * cadence_days + dice.uniform(0.05, 1.5)
        drafts.append(
            _Draft(
                show,
                number=index + 1,
                season=1 + index // 6 if seasons else 0,
                title=voice.title(templates[index]),
                description=voice.description(),
                duration_s=dice.randint(12 * 60, 70 * 60),
                age_s=round(age_days * DAY_S) if index < at_start else None,
                lines=_conversation(dice, show.show, voice),
            )
        )
    return drafts


def _release_order(seed: int, counts: Sequence[int]) -> list[list[int]]:
    """Places in one queue for ``counts[i]`` later episodes of each show, each show's in order."""
    owners = [index for index, count in enumerate(counts) for _ in range(count)]
    random.Random(f"{seed}:release").shuffle(owners)
    places: list[list[int]] = [[] for _ in counts]
    for place, owner in enumerate(owners):
        places[owner].append(place)
    return places


def _finish(draft: _Draft, episode_id: int, release: int | None) -> DemoEpisode:
    # A publisher uses one tool; some offer a second, plainer rendering of the same words.
    feed_id = draft.show.feed_id
    first = FORMATS[feed_id % len(FORMATS)]
    rest = FORMATS[FORMATS.index(first) + 1 :]
    formats = (rest[-1], first) if rest and feed_id % 3 == 0 else (first,)
    live = episode_id == FIRST_EPISODE_ID
    return DemoEpisode(
        episode_id,
        feed_id,
        draft.number,
        draft.season,
        draft.title,
        draft.description,
        None if live else draft.duration_s,
        draft.age_s,
        release,
        formats,
        draft.lines,
    )


class _Voice:
    """Fills templates with the words of an episode: mostly its own terms and its subject."""

    def __init__(self, dice: random.Random, show: DemoShow, terms: tuple[str, str]) -> None:
        self._dice = dice
        self._show = show
        self._terms = terms

    def _subject(self) -> Subject:
        first, *second = self._show.subjects
        return second[0] if second and self._dice.random() < 0.25 else first

    def _term(self) -> str:
        draw = self._dice.random()
        if draw < 0.6:
            return self._terms[0]
        return self._terms[1] if draw < 0.88 else self._dice.choice(self._show.show.terms)

    def say(self, template: str) -> str:
        subject, term = self._subject(), self._term()
        noun, noun2 = self._dice.sample(subject.nouns, 2)
        verb, verb2 = self._dice.sample(subject.verbs, 2)
        adjective = self._dice.choice(subject.adjectives)
        other = next((t for t in reversed(self._terms) if t != term), self._terms[0])
        text = template.format(
            t=term,
            u=other,
            noun=noun,
            noun2=noun2,
            verb=verb,
            verb2=verb2,
            adj=adjective,
            adj_noun=_with_article(f"{adjective} {noun}"),
            people=self._dice.choice(subject.people),
        )
        return text[0].upper() + text[1:]

    def title(self, template: str) -> str:
        subject = self._show.subjects[0]
        text = template.format(
            A=self._terms[0],
            B=self._terms[1],
            Noun=self._dice.choice(subject.nouns),
            People=self._dice.choice(subject.people),
        )
        return title_case(text)

    def description(self) -> str:
        """HTML, as publishers write it."""
        first, second = self._terms
        show = self._show.show
        return (
            f"<p>{show.hosts[0]} and {show.hosts[1]} talk about <b>{first}</b>, "
            f"and about what {self._dice.choice(self._show.subjects[0].people)} make of {second}. "
            f"{self.say(self._dice.choice(_ANSWERS))}</p>"
            f"<p>{show.title} &ndash; {show.tagline}.</p>"
        )

    def opening(self) -> str:
        show = self._show.show
        return (
            f"Welcome to {show.title}, {show.tagline}. Today we talk about {self._terms[0]}, "
            f"and, if there is time, {self._terms[1]}."
        )


def _conversation(dice: random.Random, show: Show, voice: _Voice) -> tuple[Line, ...]:
    """A talk of at least MIN_WORDS words between the two hosts."""
    host, guest = show.hosts
    turns = [(host, voice.opening())]
    words = len(turns[0][1].split())
    while words < MIN_WORDS:
        said = [(host, voice.say(dice.choice(_QUESTIONS)))]
        answers = dice.sample(_ANSWERS, dice.randint(3, 5))
        said += [(guest, voice.say(template)) for template in answers]
        turns += said
        words += sum(len(text.split()) for _, text in said)
    turns.append((host, f"That was {show.title}. Thank you for listening."))
    lines, now = [], 0
    for speaker, text in turns:
        end = now + len(text.split()) * MS_A_WORD
        lines.append(Line(now, end, speaker, text))
        now = end + 250
    return tuple(lines)


def _with_article(words: str) -> str:
    # By sound, as far as spelling tells it.
    vowel = words[0].lower() in "aeiou" and not words.startswith(("uni", "use", "eu"))
    return f"{'an' if vowel else 'a'} {words}"


def title_case(text: str) -> str:
    """A headline's capitals; words that have capitals already keep theirs."""
    words = text.split(" ")
    return " ".join(
        word
        if word != word.lower() or (index and word in _SMALL_WORDS)
        else word[:1].upper() + word[1:]
        for index, word in enumerate(words)
    )
