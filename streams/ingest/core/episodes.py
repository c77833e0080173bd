"""Turns what a source says about an episode into the record of `schemas/episode.v4.avsc`."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from streams.text.addresses import lasting_address
from streams.text.notes import Notes
from streams.text.plain_text import (
    MAX_TITLE,
    clean,
    identifier,
    one_line,
    plain_text,
    short_name,
    short_title,
)

PODCASTINDEX = "podcastindex"
RSS = "rss"
IMPORT = "import"

MAX_NAMES = 50
MAX_PERSONS = 20
"""Lists are bounded so that the whole record fits into a message, whatever a stranger wrote."""
MAX_ADDRESS = 4_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

EPISODE_TYPES = ("full", "trailer", "bonus")

_NO_AUDIO = ("image", "text", "font", "document", "executable", "model")
_NO_AUDIO_TYPE = re.compile(
    r"application/(?:pdf|epub\+zip|json|xml|x?html|xhtml\+xml|zip|msword|x-shockwave-flash|javascript"
    r"|x-bittorrent)"
)
_NO_AUDIO_SUFFIX = re.compile(
    r"\.(?:jpe?g|png|gif|webp|svg|avif|bmp|pdf|epub|html?|txt|torrent|zip)\Z", re.I
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*")


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
    long_title, long_show_title = item.get("title"), item.get("feedTitle") or feed.get("title")
    show_title = short_title(long_show_title)
    record = {
        "episode_id": f"pi:{episode_id}",
        "title": short_title(long_title) or show_title or f"Episode {episode_id}",
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
        "transcripts": _links(item.get("transcripts"), item.get("transcriptUrl")),
        "source": PODCASTINDEX,
        "season": ordinal(item.get("season")),
        "number": ordinal(item.get("episode")),
        "episode_type": episode_type(item.get("episodeType")),
        "persons": persons(item.get("persons")),
        "chapters_url": web_address(item.get("chaptersUrl")),
        "chapters_type": "",
        "feed_guid": feed_guid(item.get("podcastGuid") or feed.get("podcastGuid")),
    }
    said = {
        "published_at": item.get("datePublished"),
        "duration_s": item.get("duration"),
        "enclosure_url": item.get("enclosureUrl"),
        "language": item.get("feedLanguage") or feed.get("language"),
        "season": item.get("season"),
        "number": item.get("episode"),
        "episode_type": item.get("episodeType"),
    }
    notes = (*_cut(title=long_title, show_title=long_show_title), *_of_no_use(said, record))
    return record | {"notes": Notes(notes).listed()}


def episode_from_rss(
    feed_url: str, feed: Mapping[str, Any], entry: Mapping[str, Any]
) -> dict[str, Any]:
    """An `episode` record from an entry and its feed, both as `parse_feed` gives them.

    Raises EpisodeError without a guid.
    """
    # Private feeds sign the addresses they have for ids, too.
    guid = lasting_address(identifier(entry.get("guid")))
    if not guid:
        raise EpisodeError("the entry has no guid")
    show_title = short_title(feed.get("title"))
    named = [name for path in feed.get("itunes_categories") or () for name in path]
    keys = ("explicit", "google_explicit")
    explicit = [said.get(key) for said in (entry, feed) for key in keys]
    chapters = next(iter(_links(entry.get("chapters_link"))), {"url": "", "type": ""})
    record = {
        "episode_id": rss_episode_id(feed_url, guid),
        "title": short_title(entry.get("title")) or show_title or guid[:MAX_TITLE],
        "show_id": rss_show_id(feed_url),
        "show_title": show_title,
        "description": plain_text(entry.get("description_html") or entry.get("description")),
        "categories": categories(named),
        "language": language_tag(entry.get("language")) or language_tag(feed.get("language")),
        "published_at": utc_time(entry.get("published")),
        "duration_s": seconds(entry.get("total_time")),
        "explicit": truth(next((said for said in explicit if said is not None), None)),
        "enclosure_url": audio_file(entry.get("enclosures"))[0],
        "image_url": _first_address(entry.get("episode_art_url"), feed.get("cover_url")),
        "link": web_address(entry.get("link")),
        "guid": guid,
        "transcripts": _links(entry.get("transcripts")),
        "source": RSS,
        "season": ordinal(entry.get("season")),
        "number": ordinal(entry.get("number")),
        "episode_type": episode_type(entry.get("type")),
        "persons": persons(entry.get("persons")) or persons(feed.get("persons")),
        "chapters_url": chapters["url"],
        "chapters_type": chapters["type"],
        "feed_guid": feed_guid(feed.get("feed_guid")),
    }
    said = {
        "enclosure_url": _first_url(entry.get("enclosures")),
        "language": entry.get("language") or feed.get("language"),
    }
    cut = _cut(title=entry.get("title"), show_title=feed.get("title"))
    notes = (*feed.get("notes", ()), *entry.get("notes", ()), *cut, *_of_no_use(said, record))
    return record | {"notes": Notes(notes).listed()}


def _cut(**titles: object) -> list[str]:
    """Notes on the titles that are longer than a record has them."""
    return [
        f"{name} cut to {MAX_TITLE} characters"
        for name, said in titles.items()
        if len(one_line(said)) > MAX_TITLE
    ]


def _of_no_use(said: Mapping[str, object], record: Mapping[str, object]) -> list[str]:
    """Notes on what a source says of fields for which the record has nothing.

    Zero stands for nothing, too.
    """
    return [
        f"{name} left out: {value!r:.80}"
        for name, value in said.items()
        if value not in (None, "", 0, "0") and record[name] in (None, "")
    ]


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
    """The id of a show that is known by its feed alone."""
    return f"rss:{_digest(feed_url)}"


def _digest(*parts: str) -> str:
    joined = "\n".join(parts).encode("utf-8", "replace")
    return hashlib.sha256(joined).hexdigest()[:20]


def categories(value: object) -> list[str]:
    """Names of categories, each once, in the order given, at most 50.

    PodcastIndex sends ``{"104": "Tv"}`` or null, RSS a list.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    names: Iterable[object] = value[: 2 * MAX_NAMES] if isinstance(value, list | tuple) else ()
    return list(dict.fromkeys(filter(None, map(short_name, names))))[:MAX_NAMES]


def persons(value: object) -> list[dict[str, str]]:
    """Who is in the episode, at most 20, each once in a role; who has no name is left out."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in value[: 2 * MAX_PERSONS] if isinstance(value, list) else ():
        if isinstance(entry, Mapping) and (name := short_name(entry.get("name"))):
            role = short_name(entry.get("role")).lower() or "host"
            addresses = {
                "href": _short_address(entry.get("href")),
                "image": _short_address(entry.get("img")),
            }
            found.setdefault((name, role), {"name": name, "role": role, **addresses})
    return list(found.values())[:MAX_PERSONS]


def ordinal(value: object) -> int | None:
    """The number of a season or an episode; None for zero, which stands for none, and for less."""
    number = _whole(value)
    return number if number is not None and 0 < number < 2**31 else None


def episode_type(value: object) -> str:
    """`full`, `trailer` or `bonus`; empty if it is none of them."""
    text = clean(value).strip().lower()
    return text if text in EPISODE_TYPES else ""


def feed_guid(value: object) -> str:
    """A `podcast:guid`, which is a UUID, as it is usually written; empty if it is none."""
    text = clean(value).strip()
    try:
        return str(uuid.UUID(text)) if len(text) <= 50 else ""
    except ValueError:
        return ""


def media_type(value: object) -> str:
    """A MIME type in lower case, as it was written otherwise."""
    return short_name(value).lower()


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
        return bool(flag(value))
    return value is True or (type(value) is int and value == 1)


def flag(text: str) -> bool | None:
    """What a word says that stands for true or false; None if it says neither."""
    word = text.strip().lower()
    if word in ("true", "yes", "1", "explicit", "y", "t", "on"):
        return True
    return False if word in ("false", "no", "0", "clean", "n", "f", "off") else None


def web_address(value: object) -> str:
    """An http or https URL, or nothing; whatever else feeds put there is of no use to anyone."""
    text = re.sub(r"[\t\n]", "", clean(value)).strip()
    if not text.lower().startswith(("http://", "https://")) or len(text) >= MAX_ADDRESS:
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


def _short_address(value: object) -> str:
    """An address that is not worth a thousand characters of a record."""
    address = web_address(value)
    return address if len(address) <= 1_000 else ""


def _first_url(enclosures: object) -> object:
    listed = enclosures if isinstance(enclosures, list) else ()
    return next((one.get("url") for one in listed if isinstance(one, Mapping)), None)


def audio_file(enclosures: object) -> tuple[str, str]:
    """(address, type) of the first enclosure that says it is audio, or else video, or else does
    not say; both empty if there is none."""
    ranked: list[tuple[int, str, str]] = []
    for entry in enclosures if isinstance(enclosures, list) else ():
        if isinstance(entry, Mapping) and (url := web_address(entry.get("url"))):
            mime = media_type(entry.get("mime_type"))
            if not is_other_than_audio(mime, url):
                kind = mime.partition("/")[0]
                ranked.append(({"audio": 0, "video": 1}.get(kind, 2), url, mime))
    return min(ranked, key=lambda one: one[0])[1:] if ranked else ("", "")


def is_other_than_audio(mime: object, url: str) -> bool:
    """Whether a file is no audio or video, by its type or, without one, by its address."""
    kind = clean(mime).strip().lower()
    if not kind or kind.endswith("/octet-stream"):
        return bool(_NO_AUDIO_SUFFIX.search(url.partition("?")[0].partition("#")[0]))
    major = kind.partition("/")[0]
    return major in _NO_AUDIO or bool(_NO_AUDIO_TYPE.match(kind))


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


def _links(listed: object, single: object = None) -> list[dict[str, str]]:
    """Addresses with their MIME types and languages, at most 20; the single one where the list
    lacks it."""
    links: dict[str, dict[str, str]] = {}
    if isinstance(listed, Mapping):
        listed = [listed]
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and (url := web_address(entry.get("url"))):
            links.setdefault(url, _link(url, entry.get("type"), entry.get("language")))
    if url := web_address(single):
        links.setdefault(url, _link(url))
    return list(links.values())[:20]


def _link(url: str, mime: object = "", language: object = "") -> dict[str, str]:
    return {"url": url, "type": media_type(mime), "language": language_tag(language)}
