import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streams.operations import tabular
from streams.operations.core.imports import Rows
from streams.operations.tabular import FileError, read_rows


def read(path: Path, *required: str) -> Rows:
    whole = Rows()
    for rows in read_rows(path, required):
        whole.lines += rows.lines
        whole.rows += rows.rows
        whole.refused += rows.refused
    return whole


def test_csv_rows_know_the_line_they_begin_at(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n1,"two\nlines"\r\n\r\n3\r\n4,5\r\n6,7,8\r\n9,10')
    rows = read(path, "a", "b")
    assert list(zip(rows.lines, rows.rows, strict=True)) == [
        (2, {"a": "1", "b": "two\nlines"}),
        (6, {"a": "4", "b": "5"}),
        (8, {"a": "9", "b": "10"}),
    ]
    assert rows.refused == [
        (5, "1 fields where the header has 2"),
        (7, "3 fields where the header has 2"),
    ]


def test_csv_bytes_that_are_no_utf8_stay_in_their_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a\nfine\nb\xffd\nfine\n")
    assert [row["a"] for row in read(path).rows] == ["fine", "b\udcffd", "fine"]


def test_csv_without_a_needed_column_says_which(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match=r"x\.csv has no column c; it has a, b"):
        read(path, "a", "c")


def test_json_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\nnonsense\n[1]\n"\xff"\n{"a": 2}')
    rows = read(path, "a")
    assert list(zip(rows.lines, rows.rows, strict=True)) == [(1, {"a": 1}), (6, {"a": 2})]
    assert [line for line, _ in rows.refused] == [3, 4, 5]
    assert rows.refused[0][1].startswith("no JSON: Expecting value")
    assert [reason for _, reason in rows.refused[1:]] == ["no JSON object", "no valid UTF-8"]


def test_parquet_rows_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": [1, 2], "c": [["x"], None]}).write_parquet(path)
    rows = read(path, "a")
    assert list(zip(rows.lines, rows.rows, strict=True)) == [
        (1, {"a": 1, "c": ["x"]}),
        (2, {"a": 2, "c": None}),
    ]


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_chunks_lose_nothing_and_progress_reaches_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    monkeypatch.setattr(tabular, "CHUNK", 3)
    path = tmp_path / name
    frame = pl.DataFrame({"a": list(range(10))})
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".parquet":
            frame.write_parquet(path)
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dicts()))
    shares: list[float] = []
    chunks = list(read_rows(path, ("a",), shares.append))
    assert [int(row["a"]) for rows in chunks for row in rows.rows] == list(range(10))
    assert len(chunks) > 3
    assert shares == sorted(shares)
    assert 0.8 < shares[-1] <= 1.0


def test_what_cannot_be_read_at_all_is_said(tmp_path: Path) -> None:
    for name, said in (("x.xls", "ends neither"), ("none.csv", "cannot be read")):
        with pytest.raises(FileError, match=said):
            read(tmp_path / name)
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(FileError, match="no Parquet file"):
        read(tmp_path / "x.parquet")
