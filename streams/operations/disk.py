"""What an instance takes of its disk, how fast that grows, and how long it lasts."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topology.places import local_folder
from topology.settings import Settings

HOUR_S = 3600.0
SAMPLE_EVERY_S = 300.0
MOST_SAMPLES = 300
"""A day of them."""

SHORTEST_S = 240.0
"""Growth over less than this is mostly a segment or a file that was just begun."""

_FOLDERS = {"kafka": "kafka", "mongo": "mongodb", "delta": "delta", "logs": "logs"}
OTHERS = "others"


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a store takes on disk, and how many more in an hour; None where nothing is known
    of an earlier time."""

    store: str
    bytes: int
    growth_per_hour: int | None


@dataclass(frozen=True)
class DiskStatus:
    """The disk that an instance writes to. ``free`` and ``reserve`` are bytes."""

    stores: list[DiskUse]
    free: int
    reserve: int

    @property
    def growth_per_hour(self) -> int | None:
        """Bytes more in an hour, of all stores."""
        known = [use.growth_per_hour for use in self.stores if use.growth_per_hour is not None]
        return sum(known) if known else None

    @property
    def days_left(self) -> float | None:
        """Days until the reserve is touched, if it goes on like this; None if it does not grow."""
        growth = self.growth_per_hour
        return max(0, self.free - self.reserve) / growth / 24 if growth and growth > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {
            "stores": [vars(use) for use in self.stores],
            "free": self.free,
            "reserve": self.reserve,
            "growth_per_hour": self.growth_per_hour,
            "days_left": self.days_left,
        }


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def free_bytes(settings: Settings) -> int:
    """What is free where the instance writes; of a folder that is not there yet, its parent's."""
    return shutil.disk_usage(existing(settings.podstream_home)).free


def shortage(settings: Settings) -> str | None:
    """A sentence that says what to do, if the disk has less than `DISK_RESERVE` left."""
    free = free_bytes(settings)
    if free >= settings.disk_reserve:
        return None
    return (
        f"{settings.podstream_home} has {free / 2**30:.1f} GiB left, less than DISK_RESERVE "
        f"({settings.disk_reserve / 2**30:.1f} GiB): free some, or move the home to a larger disk. "
        "Nothing in the log is lost; the demo's listeners wait for room."
    )


def measure(settings: Settings) -> DiskStatus:
    """What each store takes now, and its growth since about an hour ago."""
    now, sizes = time.time(), store_bytes(settings)
    before = _an_hour_before(now, _samples(settings))
    return DiskStatus(
        [DiskUse(name, size, growth(name, now, size, before)) for name, size in sizes.items()],
        free_bytes(settings),
        settings.disk_reserve,
    )


def store_bytes(settings: Settings) -> dict[str, int]:
    """Store -> bytes on disk, of what lies on this machine."""
    sizes = dict.fromkeys((*_FOLDERS.values(), OTHERS), 0)
    home = settings.podstream_home
    with suppress(FileNotFoundError):
        for entry in os.scandir(home):
            sizes[_FOLDERS.get(entry.name, OTHERS)] += allocated(Path(entry.path))
    delta = local_folder(settings.delta_root)
    if delta is not None and delta.is_dir() and not delta.is_relative_to(home):
        sizes["delta"] += allocated(delta)
    return sizes


def allocated(path: Path) -> int:
    """Bytes that a file, or everything below a folder, takes on disk; files may come and go.

    Blocks, not lengths: a broker's index files are mostly holes.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_blocks * 512
        return sum(allocated(Path(entry.path)) for entry in os.scandir(path))
    return 0


def growth(name: str, now: float, size: int, before: Mapping[str, Any] | None) -> int | None:
    """Bytes an hour since an earlier sample; None if there is none or the store was not in it."""
    if before is None or name not in before["bytes"]:
        return None
    hours: float = (now - before["at"]) / HOUR_S
    added: int = size - before["bytes"][name]
    return round(added / hours)


def _an_hour_before(now: float, samples: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The sample nearest to an hour ago, of those that are old enough to tell."""
    old = [sample for sample in samples if now - sample["at"] >= SHORTEST_S]
    return min(old, key=lambda sample: abs(now - HOUR_S - sample["at"]), default=None)


# -- samples -------------------------------------------------------------------------------------


def sample(settings: Settings) -> None:
    """Remember what the stores take now, if the last sample is some minutes old."""
    samples = _samples(settings)
    now = time.time()
    if samples and 0 <= now - samples[-1]["at"] < SAMPLE_EVERY_S:
        return
    kept = [*samples[-MOST_SAMPLES + 1 :], {"at": now, "bytes": store_bytes(settings)}]
    path = _samples_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(one) + "\n" for one in kept))
    partial.replace(path)


def _samples_file(settings: Settings) -> Path:
    return settings.podstream_home / "run" / "disk.jsonl"


def _samples(settings: Settings) -> list[dict[str, Any]]:
    try:
        lines = _samples_file(settings).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
