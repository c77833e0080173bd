"""The demo catalogue in the shapes of PodcastIndex's API."""

from __future__ import annotations

import io
import time
import wave
from functools import cache
from typing import Any

from streams.demo.demo_catalogue import DemoEpisode, DemoShow
from streams.demo.demo_publisher import Publisher
from streams.demo.demo_transcripts import RENDERINGS

WORDS_WITHOUT_FULLTEXT = 100
NO_CATEGORIES = "Match Point"

Json = dict[str, Any]


def feed_json(show: DemoShow, base: str) -> Json:
    """A feed; ``base`` is the index's own address."""
    return {
        "id": show.feed_id,
        "url": feed_url(show, base),
        "title": show.show.title,
        "description": show_description(show),
        "author": " and ".join(show.show.hosts),
        "image": "",
        "artwork": "",
        "itunesId": None,
        "language": language(show),
        "explicit": show.explicit,
        "categories": None
        if show.show.title == NO_CATEGORIES
        else {str(subject.category_id): subject.name for subject in show.subjects},
    }


def episode_json(publisher: Publisher, episode: DemoEpisode, base: str, fulltext: bool) -> Json:
    """An episode as `episodes/byid` has it; ``base`` is the index's own address."""
    show = publisher.catalogue.shows[episode.feed_id]
    published = publisher.published_at(episode)
    description = episode.description
    if not fulltext:
        description = " ".join(description.split(" ")[:WORDS_WITHOUT_FULLTEXT])
    return {
        "id": episode.episode_id,
        "title": episode.title,
        "link": page_url(episode),
        "description": description,
        "guid": guid(episode),
        "datePublished": published,
        "datePublishedPretty": time.strftime("%B %d, %Y %I:%M%p", time.gmtime(published)).lower(),
        "dateCrawled": publisher.changed_at(episode),
        "enclosureUrl": enclosure_url(episode, base),
        "enclosureType": "audio/wav",
        "enclosureLength": len(silence()),
        "duration": episode.duration_s,
        "explicit": int(show.explicit),
        "episode": episode.number,
        "episodeType": "full",
        "season": episode.season,
        "image": "",
        "feedItunesId": None,
        "feedImage": "",
        "feedId": show.feed_id,
        "feedTitle": show.show.title,
        "feedLanguage": language(show),
        "transcripts": transcript_links(episode, base),
        "persons": [{"name": name, "role": "host"} for name in show.show.hosts],
    }


def added_feed_json(show: DemoShow, base: str) -> Json:
    """A feed as `recent/data` has it."""
    return {
        "feedId": show.feed_id,
        "feedUrl": feed_url(show, base),
        "feedTitle": show.show.title,
        "feedDescription": show_description(show),
        "feedImage": "",
        "feedLanguage": language(show),
        "feedItunesId": None,
    }


def added_episode_json(publisher: Publisher, episode: DemoEpisode, base: str) -> Json:
    """An episode as `recent/data` has it."""
    published = publisher.published_at(episode)
    return {
        "episodeId": episode.episode_id,
        "episodeTitle": episode.title,
        "episodeDescription": " ".join(episode.description.split(" ")[:WORDS_WITHOUT_FULLTEXT]),
        "episodeImage": "",
        "episodeTimestamp": published,
        "episodeAdded": published,
        "episodeEnclosureUrl": enclosure_url(episode, base),
        "episodeEnclosureLength": len(silence()),
        "episodeEnclosureType": "audio/wav",
        "episodeDuration": episode.duration_s,
        "episodeType": "full",
        "feedId": episode.feed_id,
    }


def transcript_links(episode: DemoEpisode, base: str) -> list[dict[str, str]]:
    """Address and MIME type of each rendering of an episode's transcript."""
    return [
        {
            "url": f"{base}/transcripts/{episode.episode_id}.{RENDERINGS[name].suffix}",
            "type": mime(name, episode.feed_id),
        }
        for name in episode.formats
    ]


def mime(name: str, feed_id: int) -> str:
    """What a show's publisher calls a transcript format."""
    mimes = RENDERINGS[name].mimes
    return mimes[feed_id // 5 % len(mimes)]


def feed_url(show: DemoShow, base: str) -> str:
    """Where the feed of a show is served; ``base`` is the demo index's own address."""
    return f"{base}/feeds/{show.feed_id}.xml"


def enclosure_url(episode: DemoEpisode, base: str) -> str:
    """Where the audio of an episode is served."""
    return f"{base}/audio/{episode.episode_id}.wav"


def page_url(episode: DemoEpisode) -> str:
    """The web page of an episode: an address that nobody serves."""
    return f"https://www.example.com/{episode.feed_id}/{episode.number}"


def guid(episode: DemoEpisode) -> str:
    """What names an episode within its feed."""
    return f"demo-{episode.episode_id}"


def language(show: DemoShow) -> str:
    """The language tag of a show, written as publishers write it, one way or the other."""
    return "en-US" if show.feed_id % 2 else "en"


def show_description(show: DemoShow) -> str:
    """What a show says of itself."""
    return f"{show.show.title}: {show.show.tagline}."


@cache
def silence() -> bytes:
    """A second of silence: something true for an enclosure's address to hold."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8000)
    return buffer.getvalue()
