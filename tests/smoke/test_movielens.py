"""MovieLens-100K through the whole platform: real interactions in, exact counts out."""

from __future__ import annotations

import json
from collections.abc import Iterator

import polars as pl
import pytest
from deltalake import DeltaTable

from streams.cli.commands.recommend import find_list
from tests.smoke.instance import Instance, wait_until

INTERACTIONS = 100_000

WAIT_S = 900
"""For anything that the platform is to do. Its first commit of 100,000 events takes four to five
minutes of two free cores, as every query of Spark starts at once; a busy machine takes longer."""

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(4 * WAIT_S)]


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance without the demo, with MovieLens-100K imported.

    Its MongoDB keeps every minute of the seven months that were rated in.
    """
    kept = {"MONGO_KEEP_HOURS": str(24 * 365), "MONGO_KEEP_DAYS": "365"}
    instance = Instance(tmp_path_factory.mktemp("movielens"), {}, kept)
    try:
        started = instance.run("up", "--detach", "--ports", "auto", timeout=WAIT_S)
        assert started.returncode == 0, started.stdout + started.stderr
        imported = instance.run("import", "movielens", "ml-100k", timeout=WAIT_S)
        assert imported.returncode == 0, imported.stdout + imported.stderr
        yield instance
    finally:
        instance.run("down")


def delta(instance: Instance, name: str) -> pl.DataFrame:
    table = DeltaTable(f"{instance.settings.delta_root}/{name}").to_pyarrow_table()
    return pl.from_arrow(table)  # type: ignore[return-value]


def test_delta_holds_every_interaction_once(movielens: Instance) -> None:
    wait_until(
        lambda: movielens.delta_rows("user_events") >= INTERACTIONS,
        WAIT_S,
        "100,000 events in Delta",
    )
    events = delta(movielens, "user_events")
    assert events.height == INTERACTIONS
    assert events["event_id"].n_unique() == INTERACTIONS
    wait_until(
        lambda: (
            movielens.delta_rows("user_vs_episode_daily")
            and delta(movielens, "user_vs_episode_daily")["heard_ms"].sum()
            == events["heard_ms"].sum()
        ),
        WAIT_S,
        "the daily table",
    )
    daily = delta(movielens, "user_vs_episode_daily")
    assert daily.select("user_id", "episode_id", "day").is_unique().all()
    completes = events.filter(pl.col("kind") == "complete").height
    assert daily["completes"].sum() == completes


def test_importing_it_again_adds_no_event(movielens: Instance) -> None:
    again = movielens.run("import", "movielens", "ml-100k", timeout=WAIT_S)
    assert again.returncode == 0, again.stderr
    assert f"imported already ({INTERACTIONS:,} events" in again.stdout
    assert "sent to user-events" not in again.stdout


def test_the_engagement_windows_add_up_to_the_events(movielens: Instance) -> None:
    events = delta(movielens, "user_events")
    expected = (
        events.group_by("episode_id")
        .agg(
            heard_ms=pl.col("heard_ms").sum(),
            completes=(pl.col("kind") == "complete").sum().cast(pl.Int64),
            plays=(pl.col("kind") == "play").sum().cast(pl.Int64),
        )
        .sort("episode_id")
    )

    def lag() -> int:
        lags = movielens.lags()
        return sum(lags[name] for name in ("batch_events", "track_engagement", "serve_mongo"))

    # Not before: to read a collection of 100,000 documents again and again is to slow down who
    # writes them.
    wait_until(lambda: lag() == 0, WAIT_S, "every event in MongoDB")
    fields = ("episode_id", "heard_ms", "completes", "plays")
    with movielens.mongo() as database:
        documents = list(database["engagement_windows"].find({}, fields))
    types = {name: expected.schema[name] for name in fields}
    sums = pl.DataFrame(documents, schema=types).group_by("episode_id")
    served = sums.agg(pl.col("heard_ms", "completes", "plays").sum()).sort("episode_id")
    assert served.equals(expected)


def test_the_generation_beats_popularity_and_reaches_listener_196(movielens: Instance) -> None:
    def metrics() -> dict[tuple[str, str], float]:
        with movielens.mongo() as database:
            documents = list(database["model_metrics"].find({"metric": "ndcg_at_10"}))
        newest = sorted(documents, key=lambda d: d["generation"])
        return {(d["model"], d["metric"]): d["value"] for d in newest}

    def up_to_date() -> bool:
        # The first generation may have seen no more than the first rows of the daily table. Its
        # record follows its figures, so what is served then is of the one that has seen all.
        lags = movielens.lags()
        return lags["train_als"] == 0 and lags["serve_mongo"] == 0

    wait_until(up_to_date, WAIT_S, "the figures of a generation that has seen every event")
    figures = metrics()
    assert figures["als", "ndcg_at_10"] > figures["popularity", "ndcg_at_10"]

    def recommended() -> bool:
        found = find_list(movielens.settings, "196")
        return found is not None and any(item["parts"]["als"] > 0 for item in found["items"])

    wait_until(recommended, WAIT_S, "listener 196's list from factors")
    done = movielens.run("recommend", "196", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert any(item["parts"]["als"] > 0 for item in found["items"])
    heard = set(
        delta(movielens, "user_events").filter(pl.col("user_id") == "196")["episode_id"].to_list()
    )
    assert len(found["items"]) == 50
    assert not heard & {item["episode_id"] for item in found["items"]}
    assert all(item["title"] and item["reason"] for item in found["items"])
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
