"""A large file is read by a process of its own, and to the same end."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from streams.operations.event_reading import Encoded, reading
from streams.operations.reports import ImportFailedError
from streams.operations.table_source import CHUNK, FileError

ROWS = CHUNK * 2 + 7
SCHEMA_ID = 1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.csv"
    rows = [f"e{number},u{number % 50},pi:1,play,2026-03-01T12:00:00Z" for number in range(ROWS)]
    rows[5] = "bad,,pi:1,play,2026-03-01T12:00:00Z"
    rows[-1] = "bad,u,pi:1,play,yesterday"
    path.write_text("event_id,user_id,episode_id,kind,occurred_at\n" + "\n".join(rows) + "\n")
    return path


def plain(parts: list[Encoded]) -> list[tuple[object, ...]]:
    return [
        (users.to_pylist(), messages.to_pylist(), lines.tolist(), *rest)
        for users, messages, lines, *rest in parts
    ]


def all_of(path: Path, after: int, large: int) -> list[Encoded]:
    with reading(path, large) as read:
        return list(read(after, SCHEMA_ID))


@pytest.mark.parametrize("after", [0, 7, CHUNK + 100])
def test_another_process_reads_the_same(path: Path, after: int) -> None:
    parts = all_of(path, after, 10**9)
    assert plain(all_of(path, after, 0)) == plain(parts)
    left = ROWS + 1 - max(after, 1)  # the header is a line
    assert sum(len(part.messages) for part in parts) == left - (2 if after < 7 else 1)
    assert parts[-1][-2:] == (ROWS + 1, 1.0)


def test_what_is_wrong_with_a_file_is_told_from_there(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    with pytest.raises(FileError, match=r"cannot be read: No such file"):
        all_of(path, 0, 10**9)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match="has no column"):
        all_of(path, 0, 0)


def test_a_reader_that_is_killed_is_told_and_one_that_is_let_go_ends(path: Path) -> None:
    with reading(path, 0) as read:
        found = read(0, SCHEMA_ID)
        next(found)
        (reader,) = multiprocessing.active_children()
        reader.kill()
        with pytest.raises(ImportFailedError, match="goes on from here"):
            list(found)
    with reading(path, 0) as read:
        next(read(0, SCHEMA_ID))
    with reading(path, 0):
        pass
    assert not multiprocessing.active_children()
