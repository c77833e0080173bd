from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from streams.operations import disk
from topology.settings import Settings

MEGABYTE = 1_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(podstream_home=tmp_path / "home", disk_reserve=0)


def fill(settings: Settings, name: str, size: int) -> None:
    path = settings.podstream_home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_stores_are_told_apart_and_holes_take_no_room(settings: Settings, tmp_path: Path) -> None:
    fill(settings, "kafka/data/user-events-0/0.log", 2 * MEGABYTE)
    fill(settings, "logs/broker.log", MEGABYTE)
    fill(settings, "spark/rdd/0", MEGABYTE)
    with (settings.podstream_home / "kafka" / "0.index").open("wb") as index:
        index.truncate(50 * MEGABYTE)
    sizes = disk.store_bytes(settings)
    assert set(sizes) == {"kafka", "mongodb", "delta", "logs", "others"}
    assert 2 * MEGABYTE <= sizes["kafka"] < 3 * MEGABYTE
    assert MEGABYTE <= sizes["logs"] < 2 * MEGABYTE
    assert MEGABYTE <= sizes["others"] < 2 * MEGABYTE
    assert sizes["mongodb"] == 0

    elsewhere = settings.model_copy(update={"delta_root": str(tmp_path / "lake")})
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.parquet").write_bytes(b"x" * MEGABYTE)
    assert disk.store_bytes(elsewhere)["delta"] >= MEGABYTE


def test_nothing_is_known_of_growth_before_there_is_a_sample(settings: Settings) -> None:
    disk.sample(settings)
    status = disk.measure(settings)
    assert status.growth_per_hour is None
    assert status.days_left is None


def test_growth_is_since_an_hour_ago_and_says_how_long_it_lasts(settings: Settings) -> None:
    fill(settings, "kafka/0.log", 10 * MEGABYTE)
    now = time.time()
    samples = [
        {"at": now - hours * 3600, "bytes": {"kafka": taken}}
        for hours, taken in ((30, 0), (2, MEGABYTE), (0.5, 9 * MEGABYTE), (0.001, 10 * MEGABYTE))
    ]
    path = settings.podstream_home / "run" / "disk.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    status = disk.measure(settings)
    (kafka,) = [use for use in status.stores if use.store == "kafka"]
    assert kafka.growth_per_hour == pytest.approx(2 * MEGABYTE, rel=0.05), "since half an hour ago"
    expected = status.free / (status.growth_per_hour or 0) / 24
    assert status.days_left == pytest.approx(expected)


def test_samples_are_minutes_apart_and_a_day_of_them_is_kept(settings: Settings) -> None:
    disk.sample(settings)
    disk.sample(settings)
    path = settings.podstream_home / "run" / "disk.jsonl"
    assert len(path.read_text().splitlines()) == 1
    old = {"at": time.time() - 3600, "bytes": {}}
    path.write_text((json.dumps(old) + "\n") * 1000)
    disk.sample(settings)
    assert len(path.read_text().splitlines()) == disk.MOST_SAMPLES


def test_less_than_the_reserve_is_told_with_what_to_do(settings: Settings) -> None:
    assert disk.shortage(settings) is None
    short = disk.shortage(settings.model_copy(update={"disk_reserve": 2**60}))
    assert short is not None
    assert "less than DISK_RESERVE" in short
    assert "free some" in short
