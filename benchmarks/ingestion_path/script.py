"""What one would write without a platform: one request after another, kept in a file.

`requests` for the web, podcastparser for feeds, webvtt and srt for captions. It retries nothing,
guards against nothing, notices no change and has to begin again when it is interrupted.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import podcastparser
import requests
import srt
import webvtt
from selectolax.lexbor import LexborHTMLParser

podcastparser.Namespace.NAMESPACES["https://podcastindex.org/namespace/1.0"] = "podcast"


def run(feed_urls: Sequence[str], target: Path) -> dict[str, Any]:
    """Episodes and transcripts of the feeds as JSON lines; how many, and how fast."""
    started, episodes, words = time.monotonic(), 0, 0
    with requests.Session() as session, target.open("w", encoding="utf-8") as file:
        for url in feed_urls:
            answer = session.get(url, timeout=20)
            answer.raise_for_status()
            feed = podcastparser.parse(url, io.BytesIO(answer.content))
            for episode in feed["episodes"]:
                found = session.get(episode["transcript_url"], timeout=20)
                found.raise_for_status()
                text = words_of(episode["transcript_url"].rpartition(".")[2], found.text)
                file.write(json.dumps({**episode, "transcript": text}) + "\n")
                episodes += 1
                words += len(text.split())
    took = time.monotonic() - started
    return {
        "episodes": episodes,
        "words_a_transcript": round(words / episodes),
        "seconds": round(took, 2),
        "episodes_per_s": round(episodes / took, 1),
        "transcripts_per_s": round(episodes / took, 1),
    }


def words_of(suffix: str, body: str) -> str:
    """The text of a transcript by the suffix of its address."""
    if suffix == "vtt":
        return " ".join(caption.text for caption in webvtt.from_string(body))
    if suffix == "srt":
        return " ".join(line.content for line in srt.parse(body))
    if suffix == "json":
        return " ".join(segment["body"] for segment in json.loads(body)["segments"])
    if suffix == "html":
        return LexborHTMLParser(body).body.text()
    return body
