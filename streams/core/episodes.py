"""Turns what a source says about an episode into the record of `schemas/episode.v1.avsc`."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from selectolax.lexbor import LexborHTMLParser

PODCASTINDEX = "podcastindex"
RSS = "rss"
IMPORT = "import"

MAX_DESCRIPTION = 20_000
MAX_SHORT = 2_000
MAX_NESTING = 256
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*")
_BLOCK_END = re.compile(
    r"</?(?:p|div|li|ul|ol|h[1-6]|tr|blockquote)\b[^>]{0,1000}>|<br\s{0,9}/?>", re.I
)
_MARKUP = re.compile(r"<[a-zA-Z/!]|&[a-zA-Z#]")
_BLANKS = re.compile(r"[^\S\n]+")
_OPEN_OR_CLOSE = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})")
_NEVER_NEST = frozenset(
    ("br", "col", "embed", "hr", "img", "input", "li", "link", "meta", "p", "wbr")
)
_ANY_TAG = re.compile(r"<[^<>]{0,2000}>")
_EMPTY_LINES = re.compile(r"\s*\n\s*")


class EpisodeError(ValueError):
    """What a source said cannot be an episode."""


def episode_from_podcastindex(
    item: Mapping[str, Any], feed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An `episode` record from an episode and, for its categories, the feed of PodcastIndex's API.

    Raises EpisodeError without an id or a feed's id; anything else may be missing or odd.
    """
    feed = feed or {}
    episode_id = index_id(item.get("id"))
    feed_id = index_id(item.get("feedId")) or index_id(feed.get("id"))
    if not episode_id or not feed_id:
        raise EpisodeError("the episode has no id or no feed")
    show_title = one_line(item.get("feedTitle") or feed.get("title"))
    return {
        "episode_id": f"pi:{episode_id}",
        "title": one_line(item.get("title")) or show_title or f"Episode {episode_id}",
        "show_id": f"pi:{feed_id}",
        "show_title": show_title,
        "description": plain_text(item.get("description")),
        "categories": categories(feed.get("categories")),
        "language": language_tag(item.get("feedLanguage") or feed.get("language")),
        "published_at": utc_time(item.get("datePublished")),
        "duration_s": seconds(item.get("duration")),
        "explicit": truth(item.get("explicit")),
        "enclosure_url": web_address(item.get("enclosureUrl")),
        "image_url": _first_address(item.get("image"), item.get("feedImage"), feed.get("image")),
        "link": web_address(item.get("link")),
        "guid": identifier(item.get("guid")),
        "transcripts": _transcript_links(item.get("transcripts"), item.get("transcriptUrl")),
        "source": PODCASTINDEX,
    }


def episode_from_rss(
    feed_url: str, feed: Mapping[str, Any], entry: Mapping[str, Any]
) -> dict[str, Any]:
    """An `episode` record from an entry and its feed, both as `parse_feed` gives them.

    Raises EpisodeError without a guid.
    """
    guid = identifier(entry.get("guid"))
    if not guid:
        raise EpisodeError("the entry has no guid")
    show_title = one_line(feed.get("title"))
    named = [name for path in feed.get("itunes_categories") or () for name in path]
    return {
        "episode_id": rss_episode_id(feed_url, guid),
        "title": one_line(entry.get("title")) or show_title or guid,
        "show_id": rss_show_id(feed_url),
        "show_title": show_title,
        "description": plain_text(entry.get("description_html") or entry.get("description")),
        "categories": categories(named),
        "language": language_tag(feed.get("language")),
        "published_at": utc_time(entry.get("published")),
        "duration_s": seconds(entry.get("total_time")),
        "explicit": truth(entry.get("explicit", feed.get("explicit"))),
        "enclosure_url": _sound_address(entry.get("enclosures")),
        "image_url": _first_address(entry.get("episode_art_url"), feed.get("cover_url")),
        "link": web_address(entry.get("link")),
        "guid": guid,
        "transcripts": _transcript_links(entry.get("transcripts"), None),
        "source": RSS,
    }


def podcastindex_ref(item: Mapping[str, Any], found_by: str, found_at: datetime) -> dict[str, Any]:
    """An `episode_ref` from an item of any listing. Raises EpisodeError without its two ids."""
    episode_id, feed_id = index_id(item.get("id")), index_id(item.get("feedId"))
    if not episode_id or not feed_id:
        raise EpisodeError("the episode has no id or no feed")
    return {
        "episode_id": f"pi:{episode_id}",
        "source": PODCASTINDEX,
        "feed_id": str(feed_id),
        "source_id": str(episode_id),
        "found_by": found_by,
        "found_at": found_at,
    }


def rss_ref(feed_url: str, guid: str, found_at: datetime) -> dict[str, Any]:
    """An `episode_ref` of a feed's entry."""
    return {
        "episode_id": rss_episode_id(feed_url, guid),
        "source": RSS,
        "feed_id": feed_url,
        "source_id": guid,
        "found_by": "feed",
        "found_at": found_at,
    }


def rss_episode_id(feed_url: str, guid: str) -> str:
    """A stable id: guids are unique within their feed only, and may be whole URLs."""
    return f"rss:{_digest(feed_url, guid)}"


def rss_show_id(feed_url: str) -> str:
    return f"rss:{_digest(feed_url)}"


def _digest(*parts: str) -> str:
    joined = "\n".join(parts).encode("utf-8", "replace")
    return hashlib.sha256(joined).hexdigest()[:20]


def clean(value: object) -> str:
    """Text or a number as text that UTF-8 can carry, without control characters but line ends."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64:
        value = str(value)
    text = value if isinstance(value, str) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if c >= " " or c in "\n\t") if not text.isprintable() else text


def one_line(value: object) -> str:
    """Text on one line: markup and entities gone, blanks collapsed, at most 2,000 characters."""
    return " ".join(plain_text(value).split())[:MAX_SHORT]


def identifier(value: object) -> str:
    """An id on one line, at most 2,000 characters; an ampersand in it begins no entity."""
    return " ".join(clean(value).split())[:MAX_SHORT]


def plain_text(value: object) -> str:
    """HTML as the text a reader sees, one line a block; text without markup stays as it is."""
    text = clean(value)
    if _MARKUP.search(text):
        # Cut first: what is thrown away afterwards need not be parsed.
        marked = _BLOCK_END.sub(r"\n\g<0>", text[: 10 * MAX_DESCRIPTION])
        if nests_deeply(marked):
            text = clean(html.unescape(_ANY_TAG.sub("", marked)))
        else:
            tree = LexborHTMLParser(marked)
            tree.strip_tags(["script", "style", "template", "noscript", "iframe"])
            text = clean(tree.body.text() if tree.body else "")
    text = _EMPTY_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()
    return text[:MAX_DESCRIPTION]


def nests_deeply(markup: str) -> bool:
    """Whether tags nest further than any page written in good faith.

    Parsing takes time with the square of the depth, which a stranger must not choose.
    """
    depth = 0
    opened: Counter[str] = Counter()
    for close, tag in _OPEN_OR_CLOSE.findall(markup.lower()):
        if tag in _NEVER_NEST or (close and not opened[tag]):
            continue  # a closing tag without its opening one takes nothing back
        opened[tag] += -1 if close else 1
        depth += -1 if close else 1
        if depth > MAX_NESTING:
            return True
    return False


def categories(value: object) -> list[str]:
    """Names of categories, each once, in the order given.

    PodcastIndex sends ``{"104": "Tv"}`` or null, RSS a list.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    names: Iterable[object] = value if isinstance(value, list | tuple) else ()
    return list(dict.fromkeys(name for name in map(one_line, names) if name))


def language_tag(value: object) -> str:
    """A language as a lower-case BCP-47 tag (`en_US` -> `en-us`); empty if it is none."""
    tag = clean(value).strip().lower().replace("_", "-")
    return tag if _LANGUAGE.fullmatch(tag) and len(tag) <= 35 else ""


def utc_time(value: object) -> datetime | None:
    """Unix seconds as an aware datetime; None for nothing, zero, or a time no episode has."""
    number = _whole(value)
    if number is None or not 0 < number < (LATEST - EPOCH).total_seconds():
        return None
    return EPOCH + timedelta(seconds=number)


def seconds(value: object) -> int | None:
    """A duration; None for live (null), unknown (0) and the impossible (over a month)."""
    number = _whole(value)
    return number if number is not None and 0 < number <= 31 * 86_400 else None


def truth(value: object) -> bool:
    """Whether a flag is set; sources write 1, true, "true" and "yes"."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "1", "explicit")
    return value is True or (type(value) is int and value == 1)


def web_address(value: object) -> str:
    """An http or https URL, or nothing; whatever else feeds put there is of no use to anyone."""
    text = re.sub(r"[\t\n]", "", clean(value)).strip()
    if not text.lower().startswith(("http://", "https://")) or len(text) >= 4_000:
        return ""
    try:
        parts = urlsplit(text)
        return text if parts.hostname and parts.port != 0 else ""
    except ValueError:
        return ""


def index_id(value: object) -> int | None:
    """An id of PodcastIndex: a positive number of at most 63 bits, or its digits."""
    if isinstance(value, float) and not value.is_integer():
        return None
    number = _whole(value)
    return number if number is not None and 0 < number < 2**63 else None


def _first_address(*values: object) -> str:
    return next(filter(None, map(web_address, values)), "")


def _sound_address(enclosures: object) -> str:
    """The first enclosure that says it is audio, or else video, or else does not say."""
    ranked: list[tuple[int, str]] = []
    for entry in enclosures if isinstance(enclosures, list) else ():
        if isinstance(entry, Mapping) and (url := web_address(entry.get("url"))):
            kind = clean(entry.get("mime_type")).strip().lower().partition("/")[0]
            if kind not in ("image", "text"):
                ranked.append(({"audio": 0, "video": 1}.get(kind, 2), url))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else ""


def _whole(value: object) -> int | None:
    """An integer from a number or its digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2**53 else None
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
        return int(value)
    return None


def _transcript_links(listed: object, single: object) -> list[dict[str, str]]:
    """The transcripts on offer; the single URL counts where the list does not hold it."""
    links: dict[str, dict[str, str]] = {}
    if isinstance(listed, Mapping):
        listed = [listed]
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and (url := web_address(entry.get("url"))):
            links.setdefault(url, {"url": url, "type": one_line(entry.get("type")).lower()})
    if url := web_address(single):
        links.setdefault(url, {"url": url, "type": ""})
    return list(links.values())[:20]
