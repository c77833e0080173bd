"""What the benchmark compares reads the same words, from an index that is larger but no other."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.ingestion_path.index import enlarged
from benchmarks.ingestion_path.script import run
from streams.demo.demo_catalogue import FIRST_FEED_ID, build_catalogue
from streams.demo.demo_transcripts import RENDERINGS
from streams.transcripts.core.transcripts import transcript_record
from tests.chaos.stormy_index import StormyIndex

SHOWS = 5
"""One of each transcript format."""


def test_the_script_keeps_every_episode_with_its_words(tmp_path: Path) -> None:
    with StormyIndex(None, SHOWS) as index:
        urls = [f"http://{index.host}/feeds/{FIRST_FEED_ID + n}.xml" for n in range(SHOWS)]
        figures = run(urls, tmp_path / "out.jsonl")
        known = len(index.episode_ids)
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(kept) == figures["episodes"] == known
    by_guid = {f"demo-{number}": e for number, e in build_catalogue().episodes.items()}
    suffixes = set()
    for episode in kept:
        url = episode["transcript_url"]
        suffixes.add(url.rpartition(".")[2])
        rendering = next(r for r in RENDERINGS.values() if url.endswith(f".{r.suffix}"))
        body = rendering.write(by_guid[episode["guid"]].lines).encode()
        record = transcript_record({"episode_id": "x"}, {"url": url, "type": ""}, body)
        # Speakers, which the script leaves in where they are text, come on top.
        missing = set(record["text"].split()) - set(episode["transcript"].split())
        assert len(missing) < 0.05 * len(record["text"].split())
    assert suffixes == {rendering.suffix for rendering in RENDERINGS.values()}


def test_the_larger_index_has_every_show_several_times() -> None:
    one, three = build_catalogue(), enlarged(3)
    assert len(three.shows) == 3 * len(one.shows)
    assert len(three.episodes) == 3 * len(one.episodes)
    assert all(episode.release is None for episode in three.episodes.values())
    assert {e.feed_id for e in three.episodes.values()} == three.shows.keys()
    for number, episode in three.episodes.items():
        assert episode.episode_id == number
