import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.operations import csv_records, tabular
from streams.operations.core.imports import Rows
from streams.operations.table_source import FileError
from streams.operations.tabular import read_rows


def read(path: Path, *required: str) -> Rows:
    found = list(read_rows(path, required))
    return Rows(
        [line for rows in found for line in rows.lines],
        [row for rows in found for row in rows.rows],
        [one for rows in found for one in rows.refused],
    )


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
    for module, name_of in ((tabular, "CHUNK"), (csv_records, "CHUNK"), (csv_records, "BLOCK")):
        monkeypatch.setattr(module, name_of, 3)
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


EVENTS = "user_id,episode_id,kind\nu-1,é-1,play\nu-2,e-2,play\n"
WANTED = ("user_id", "episode_id", "kind")
TWO = [
    {"user_id": "u-1", "episode_id": "é-1", "kind": "play"},
    {"user_id": "u-2", "episode_id": "e-2", "kind": "play"},
]
QUOTED = "\n".join('"' + line.replace(",", '", "') + '"' for line in EVENTS.splitlines())
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TWO)


# Without the time of packing, which would give each process of a run other names for the tests.
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.csv.gz", gzip.compress(EVENTS.encode(), mtime=0)),
        ("packed-but-not-named-so.csv", gzip.compress(EVENTS.encode(), mtime=0)),
        (
            "two-members.csv.gz",
            gzip.compress(EVENTS[:30].encode(), mtime=0)
            + gzip.compress(EVENTS[30:].encode(), mtime=0),
        ),
        ("semicolons.csv", EVENTS.replace(",", ";").encode()),
        ("tabs.csv", EVENTS.replace(",", "\t").encode()),
        ("x.tsv", EVENTS.replace(",", "\t").encode()),
        ("bars.csv", EVENTS.replace(",", "|").encode()),
        ("says-so.csv", b"sep=;\r\n" + EVENTS.replace(",", ";").encode()),
        ("mark.csv", EVENTS.encode("utf-8-sig")),
        ("mark-and-quote.csv", b'\xef\xbb\xbf"user_id"' + EVENTS[7:].encode()),
        ("utf-16.csv", EVENTS.encode("utf-16")),
        ("utf-16-be.csv", b"\xfe\xff" + EVENTS.encode("utf-16-be")),
        ("utf-16-unmarked.csv", EVENTS.encode("utf-16-le")),
        ("utf-16-tabs.csv", EVENTS.replace(",", "\t").replace("\n", "\r\n").encode("utf-16")),
        ("utf-32.csv", EVENTS.encode("utf-32")),
        ("carriage-returns.csv", EVENTS.replace("\n", "\r").encode()),
        ("blanks-after-commas.csv", EVENTS.replace(",", ", ").encode()),
        ("quotes-after-blanks.csv", QUOTED.encode()),
        ("blank-lines-first.csv", ("\n\n" + EVENTS).encode()),
        ("without-suffix", EVENTS.encode()),
        ("lines-without-suffix", LINES.encode()),
        ("x.jsonl", LINES.encode("utf-8-sig")),
        ("utf-16.jsonl", LINES.encode("utf-16")),
        ("x.json.gz", gzip.compress(LINES.encode(), mtime=0)),
    ],
)
def test_files_are_read_as_programs_write_them(tmp_path: Path, name: str, body: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    rows = read(path, *WANTED)
    assert (rows.rows, rows.refused) == (TWO, [])


def test_binary_columns_of_parquet_are_text(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(
        {
            "user_id": pa.array([b"h-1", None, b"\xff"], pa.binary()),
            "tags": pa.array([[b"a"], None, []], pa.list_(pa.large_binary())),
            "kind": pa.array([b"play"] * 3, pa.binary(4)),
        }
    )
    pq.write_table(table, path)
    assert read(path, "user_id").rows == [
        {"user_id": "h-1", "tags": ["a"], "kind": "play"},
        {"user_id": None, "tags": None, "kind": "play"},
        {"user_id": "\udcff", "tags": [], "kind": "play"},
    ]
    packed = tmp_path / "y.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed, "user_id").rows == read(path, "user_id").rows


def test_a_quote_that_is_never_closed_is_refused_with_what_it_swallows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes('a,b\n1,2\n3,"é\n5,6\n7,8\n'.encode())
    rows = read(path, "a")
    assert (rows.lines, rows.rows) == ([2], [{"a": "1", "b": "2"}])
    assert rows.refused == [(3, "a quote that is opened is never closed: 14 bytes passed over")]
    path.write_bytes('a;b\n1;2\n"3;4'.encode("utf-16"))
    assert read(path, "a", "b").refused == [
        (3, "a quote that is opened is never closed: 8 bytes passed over")
    ]
    path.write_bytes(b'"a,b\n1,2\n')
    assert read(path, "a").refused == [
        (1, "a quote that is opened is never closed: 9 bytes passed over")
    ]


def test_a_quote_that_is_closed_in_another_row_says_what_was_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n"1\n3,4\n5,"6,7\n8,9\n')
    rows = read(path, "a")
    assert rows.refused == [
        (2, "a quote that is opened is closed in another row: 14 bytes passed over")
    ]
    assert rows.rows == [{"a": "8", "b": "9"}]
    path.write_bytes(b'a,b\n1,"2\n3,4\n5",6\n7,8\n')
    assert read(path, "a").refused == [(2, "3 fields where the header has 2: 14 bytes passed over")]


def test_fields_of_several_lines_are_no_slip(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,"2\n3,4\n5,6"\n7,"he said ""no""\n"\n8,"not ""\nso "well" done"\n')
    rows = read(path, "a")
    assert [row["a"] for row in rows.rows] == ["1", "7", "8"]
    assert rows.refused == []


def test_columns_named_twice_are_refused_and_a_repeated_header_too(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b,a\n1,2,3\n")
    assert read(path, "a").refused == [(1, "column a twice: 6 bytes passed over")]
    path.write_bytes(b"a,b,,\n1,2,,\na,b,,\n3,4,,\n")
    rows = read(path, "a")
    assert [row["a"] for row in rows.rows] == ["1", "3"]
    assert rows.refused == [(3, "the header once more")]
    twice = pa.table([[1], [2]], names=["a", "a"])
    pq.write_table(twice, tmp_path / "x.parquet")
    with pytest.raises(FileError, match="has column a twice"):
        read(tmp_path / "x.parquet", "a")


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_a_packed_file_without_its_end_is_read_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    header = b"a\n" if name.startswith("x.csv") else b""
    packed = gzip.compress(header + b"".join(b'{"a": %d}\n' % n for n in range(2_000)))
    path.write_bytes(packed[:-100])
    rows = read(path)
    assert 1_000 < len(rows.rows) < 2_000
    assert "the packed file is broken" in rows.refused[-1][1]


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_of_a_packed_file_with_something_behind_it_all_rows_are_read(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    body = EVENTS if name.startswith("x.csv") else LINES
    path.write_bytes(gzip.compress(body.encode()) + b"something else")
    rows = read(path)
    assert rows.rows == TWO
    assert "the packed file is broken" in rows.refused[-1][1]
