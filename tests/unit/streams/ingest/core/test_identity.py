"""Which episodes are one, and what the copies of several sources come to."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.ingest.core import identity
from streams.ingest.core.identity import (
    MOST_COPIES,
    Copies,
    audio_location,
    fold,
    identity_of,
    published,
)
from topology.graph import build_graph, declared_subjects

CODEC = RecordCodec("episode-metadata", "episode", FixedRegistry(declared_subjects(build_graph(2))))
DEFAULTS = {f["name"]: f["default"] for f in files.load("episode")["fields"] if "default" in f}
PLACE = "traffic.example.net/show/One.mp3"


def episode(episode_id: str = "rss:1", **values: Any) -> dict[str, Any]:
    source = {"rss": "rss", "pi": "podcastindex"}.get(episode_id.partition(":")[0], "other")
    named = {"episode_id": episode_id, "title": "t", "show_id": "s", "show_title": "S"}
    return {**DEFAULTS, **named, "source": source, **values}


@pytest.mark.parametrize(
    "address",
    [
        f"https://{PLACE}",
        f"HTTP://{PLACE}?updated=1#t=3",
        "https://www.Traffic.Example.NET:443/show/One.mp3",
        f"https://pdst.fm/e/{PLACE}",
        f"https://www.podtrac.com/pts/redirect.mp3/{PLACE}",
        f"https://dts.podtrac.com/redirect.mp3/chrt.fm/track/8DB4DB/pdst.fm/e/{PLACE}",
        f"https://chtbl.com/track/ABC/https://{PLACE}?x=y",
        f"https://op3.dev/e,pg=917393e3-1b1e-5cef-ace4-edaa54e1f810/https%3A%2F%2F{PLACE}",
        f"https://op3.dev/e/http://www.{PLACE}",
        f"https://mgln.ai/e/12/verifi.podscribe.com/rss/p/{PLACE}",
        f"https://prfx.byspotify.com/e/claritaspod.com/measure/arttrk.com/p/ABC/{PLACE}",
        f"https://media.blubrry.com/show/p/{PLACE}",
        "https://www.pdst.fm/e/WWW.Traffic.example.net/show/One.mp3",
    ],
)
def test_audio_is_where_it_lies_whoever_counts(address: str) -> None:
    assert audio_location(address) == PLACE


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("https://cdn.example/show/one.mp3", "cdn.example/show/one.mp3"),
        ("https://cdn.example:8443/One%20a.mp3", "cdn.example:8443/One a.mp3"),
        ("https://pdst.fm/e/one.mp3", "pdst.fm/e/one.mp3"),
        ("https://media.blubrry.com/show/one.mp3", "media.blubrry.com/show/one.mp3"),
        ("https://chrt.fm/track/", "chrt.fm/track/"),
        ("https://m\u00fcller.example/1.mp3", "m\u00fcller.example/1.mp3"),
        ("https://xn--mller-kva.example/1.mp3", "m\u00fcller.example/1.mp3"),
        ("/one.mp3", ""),
        ("http://[::1", ""),
        ("", ""),
    ],
)
def test_other_addresses_keep_their_path(address: str, place: str) -> None:
    assert audio_location(address) == place


@given(st.text(max_size=60), st.sampled_from(["", "https://", "https://pdst.fm/e/", "http://["]))
def test_no_address_is_too_odd(text: str, before: str) -> None:
    place = audio_location(before + text)
    assert not place.startswith(("http://", "https://", "pdst.fm/e/a.b/"))
    assert len(identity_of(episode(guid="g", enclosure_url=before + text))) <= 32


def test_guid_and_audio_together_are_the_identity() -> None:
    one = episode("rss:1", guid="g", enclosure_url=f"https://{PLACE}")
    same = episode("pi:7", guid="g", enclosure_url=f"http://pdst.fm/e/{PLACE}?a=b")
    assert identity_of(one) == identity_of(same)
    assert identity_of(one) != identity_of({**one, "guid": "h"})
    assert identity_of(one) != identity_of({**one, "enclosure_url": "https://cdn.example/1.mp3"})


@pytest.mark.parametrize(
    "nothing", [{"guid": ""}, {"enclosure_url": ""}, {"enclosure_url": "http://["}]
)
def test_without_guid_or_audio_an_episode_is_itself(nothing: dict[str, Any]) -> None:
    known = {"guid": "g", "enclosure_url": f"https://{PLACE}", **nothing}
    assert identity_of(episode("pi:7", **known)) == "pi:7"


def folded(*said: tuple[str, dict[str, Any] | None], before: Copies | None = None) -> Copies:
    state, offset = before, before.offset if before else -1
    for number, (episode_id, values) in enumerate(said, offset + 1):
        record = None if values is None else episode(episode_id, **values)
        state = fold(state, number, episode_id, episode(episode_id)["source"], record)
    assert state is not None
    return state


def test_the_feed_counts_and_the_index_fills_what_it_leaves_empty() -> None:
    index = {"title": "cut...", "duration_s": 60, "explicit": True, "categories": ["Arts"]}
    chapters = {"chapters_url": "https://a.example/1", "chapters_type": ""}
    others = {"chapters_url": "https://b.example/1", "chapters_type": "application/json"}
    both = folded(("pi:7", {**index, **others}), ("rss:1", {"title": "Title", **chapters}))
    assert published(both) == episode(
        "pi:7", title="Title", duration_s=60, categories=["Arts"], source="rss", **chapters
    )
    without = published(folded(("pi:7", others), ("rss:1", {})))
    assert without is not None
    assert without["chapters_type"] == "application/json"


def test_an_episode_is_there_until_all_have_withdrawn_it_and_keeps_its_id() -> None:
    state = folded(("pi:7", {"title": "P"}), ("rss:1", {"title": "R"}), ("pi:7", None))
    assert published(state) == episode("pi:7", title="R", source="rss")
    state = folded(("rss:1", None), before=state)
    assert published(state) is None
    state = folded(("rss:1", {"title": "again"}), before=state)
    assert published(state) == episode("pi:7", title="again", source="rss")


def test_copies_without_end_are_left_out() -> None:
    many = folded(*((f"pi:{n}", {"title": str(n)}) for n in range(10 * MOST_COPIES)))
    assert len(many.copies) == MOST_COPIES
    edited = folded(("pi:0", {"title": "edited"}), before=many)
    assert published(edited) == episode("pi:0", title="edited")


contents = st.none() | st.fixed_dictionaries(
    {
        "title": st.sampled_from(["a", "b"]),
        "duration_s": st.sampled_from([None, 1, 2]),
        "season": st.none() | st.integers(1, 3),
        "categories": st.sampled_from([[], ["Arts"], ["News"]]),
    }
)
sources = st.sampled_from(["rss:1", "pi:7", "other:3"])
sayings = st.lists(st.tuples(sources, contents), min_size=1, max_size=12)


@given(sayings)
def test_only_the_last_word_of_each_source_counts(said: list[Any]) -> None:
    last = dict(said)
    in_any_order = published(folded(*said))
    assert in_any_order == published(folded((said[0][0], None), *last.items()))
    assert in_any_order == published(folded((said[0][0], None), *reversed(last.items())))
    assert (in_any_order is None) == all(record is None for record in last.values())


@given(sayings, st.data())
def test_what_comes_again_harms_nothing(said: list[Any], data: st.DataObject) -> None:
    """A redelivery repeats a stretch of the log, from anywhere, to its end."""
    start = data.draw(st.integers(0, len(said) - 1))
    once, again = folded(*said), folded(*said, *said[start:])
    # No source of these tests shares its rank with another one.
    assert published(again) == published(once)


@given(sayings)
def test_repeats_within_a_source_change_nothing(said: list[Any]) -> None:
    doubled = [one for pair in said for one in (pair, pair)]
    assert published(folded(*doubled)) == published(folded(*said))
    shorter = [one for one, _ in groupby(said)]
    assert published(folded(*shorter)) == published(folded(*said))


@given(sayings)
def test_a_state_is_what_was_stored(said: list[Any]) -> None:
    state = folded(*said)
    stored = identity.encode(state, CODEC.encode)
    assert identity.decode(stored, CODEC.decode) == state


def test_notes_stay_with_the_record_that_they_are_about() -> None:
    best = episode("rss:1", enclosure_url="")
    other = episode(
        "pi:1", enclosure_url=f"https://{PLACE}", notes=["language left out: 'English'"]
    )
    both = fold(fold(None, 0, "rss:1", "rss", best), 1, "pi:1", "podcastindex", other)
    record = published(both)
    assert record is not None
    assert (record["enclosure_url"], record["notes"]) == (f"https://{PLACE}", [])
