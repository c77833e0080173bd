"""How far Spark's queries are, by their checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import pyarrow
import pyarrow.fs

from topology.places import local_folder

Offsets = dict[str, dict[int, int]]
"""Topic -> partition -> the offset that is read next."""


def checkpoints(root: str) -> dict[str, Offsets] | None:
    """The progress of each Spark query: its folder's path below ``root`` -> offsets done.

    A query's checkpoint holds `offsets/N` (what batch N covers) and `commits/N` (that it is done).
    None if the object store is one that only Spark knows, or does not let us in.
    """
    folder = local_folder(root)
    try:
        if folder is not None:
            return _queries(pyarrow.fs.LocalFileSystem(), str(folder))
        # Hadoop's name of it, which everybody else knows by the store's own
        return _queries(*pyarrow.fs.FileSystem.from_uri(re.sub("^s3[an]:", "s3:", root)))
    except (pyarrow.ArrowInvalid, OSError):
        if folder is not None:
            raise
        return None


def _queries(files: pyarrow.fs.FileSystem, path: str) -> dict[str, Offsets]:
    progress: dict[str, Offsets] = {}
    pending = [(path, 0)]
    while pending:
        folder, depth = pending.pop()
        names = {
            PurePosixPath(info.path).name: info.path
            for info in files.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
            if info.type == pyarrow.fs.FileType.Directory
        }
        if {"offsets", "commits"} <= names.keys():
            name = str(PurePosixPath(folder).relative_to(path))
            progress[name] = _committed_batch(files, names["offsets"], names["commits"])
        elif depth < 3:
            pending += [(child, depth + 1) for child in names.values()]
    return progress


def _committed_batch(files: pyarrow.fs.FileSystem, offsets: str, commits: str) -> Offsets:
    def batches(folder: str) -> set[int]:
        entries = files.get_file_info(pyarrow.fs.FileSelector(folder))
        names = (PurePosixPath(entry.path).name for entry in entries)
        return {int(name) for name in names if name.isdigit()}

    done = batches(offsets) & batches(commits)
    if not done:
        return {}
    with files.open_input_stream(f"{offsets}/{max(done)}") as stream:
        return parse_offset_log(stream.read().decode())


def parse_offset_log(text: str) -> Offsets:
    """The Kafka offsets in one file of a query's offset log: a version, metadata, then sources."""
    found: Offsets = {}
    for line in text.splitlines()[2:]:
        if line == "-":  # a source without data in this batch
            continue
        for topic, partitions in json.loads(line).items():
            if isinstance(partitions, Mapping):
                found[topic] = {int(number): offset for number, offset in partitions.items()}
    return found
