"""Lines that are taken at once are the records that they are one by one."""

from __future__ import annotations

import csv
import io
from typing import Literal
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.operations import csv_records
from streams.operations.core import table
from streams.operations.core.table import Table, plain_columns
from streams.operations.table_source import FileError
from streams.operations.tabular import read_table

PLAIN = ["", "1", "two", " 3", "4 ", "é", "\0", "a", "\x85", "\x1f"]
QUOTED = ['"', '""', '"1"', '"5,6"', '"7\n8"', '"a"', '"x""y"', '"x"y', 'x"y"', '"é\x1f"', '","']
CELLS = st.sampled_from(PLAIN) | st.sampled_from(QUOTED)
ENDS = st.just("\n") | st.sampled_from(["\r\n", "\r", "\n\n", ",\n", "\r\r\n"])
LINES = (st.lists(CELLS, min_size=2, max_size=2) | st.lists(CELLS, min_size=1, max_size=4)).map(
    ",".join
)
STARTS = st.sampled_from(
    ["a,b\n", "a,b\r\n", "a, b\n", "sep=;\na;b\n", "\n\na,b,\n", '"a","b"\n', "a\n"]
)
Found = list[tuple[list[int], list[dict[str, str]], list[tuple[int, str]]]]


def read(body: bytes) -> Found | str:
    try:
        found = list(read_table(io.BytesIO(body), "x.csv", ("a",)))
    except FileError as error:
        return str(error)
    return [(rows.lines, [dict(row) for row in rows.rows], rows.refused) for rows in found]


@given(STARTS, st.lists(st.tuples(LINES, ENDS), max_size=9), st.integers(1, 4), st.integers(1, 5))
@example("a,b\n", [("1,2", "\n"), ('3,"4', "\n"), ("5,6", "\n"), ('7,8"', "\n"), ("9,0", "")], 2, 9)
@example("a,b\n", [("1,2", "\n"), ("a,b", "\n"), ("3,4", "\n")], 4, 2)
def test_blocks_and_records_are_one(
    start: str, lines: list[tuple[str, str]], block: int, chunk: int
) -> None:
    body = (start + "".join(line + end for line, end in lines)).encode()
    with patch.object(csv_records, "BLOCK", block), patch.object(csv_records, "CHUNK", chunk):
        quick = read(body)
        with patch.object(csv_records, "plain_columns", return_value=None):
            assert read(body) == quick


@given(
    st.lists(
        st.lists(st.sampled_from(["", "1", "é", " 2 ", "3,4", ","]), min_size=2, max_size=2),
        min_size=1,
    ),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_lines_of_plain_fields_are_taken_at_once(
    rows: list[list[str]], quoting: Literal[0, 1, 2], end: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=end).writerows(rows)
    lines = text.getvalue().splitlines(keepends=True)
    columns = plain_columns(lines, ",", ("a", "b"))
    assert columns == [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    "lines",
    [
        ['"1""",2\n'],
        ['x"1",2\n'],
        ['"1"x,2\n'],
        ['1,2"x"\n'],
        ['1,"2'],
        ['"1","2'],
        ['1,"2\n'],
        ['1,2"\n'],
        ['"1,2\n', '3",4\n'],
        ['1,"2\n', '3",4\n'],
        ['"1",2\x1f\n'],
        ['""\n', "1,2\n"],
        ["1,2\n", "3\n"],
        ["1,2\n", "\n"],
        ["1,2\n", "a,b\n"],
        ["1,2\n", '"a","b"\n'],
        ["1,2,3\n", "4\n"],
    ],
)
def test_other_lines_are_for_the_careful_way(lines: list[str]) -> None:
    assert plain_columns(lines, ",", ("a", "b")) is None


def test_fields_longer_than_the_longest_are_for_the_careful_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "LONGEST_FIELD", 5)
    assert plain_columns(["12,3\n"], ",", ("a", "b")) == [["12"], ["3"]]
    assert plain_columns(["12,34\n"], ",", ("a", "b")) is None


def test_a_table_is_a_sequence_of_rows() -> None:
    rows = Table(("a", "", "b", ""))
    assert (len(rows), list(rows), len(Table(()))) == (0, [], 0)
    rows.append(("1", "2", "3", "4"))
    rows.extend([["5", "9"], ["6", "0"], ["7", "1"], ["8", "2"]])
    made = [
        {"a": "1", "b": "3", "": "4"},
        {"a": "5", "b": "7", "": "8"},
        {"a": "9", "b": "1", "": "2"},
    ]
    assert (list(rows), rows[1], rows[-1], rows[:2]) == (made, made[1], made[2], made[:2])
    assert rows.by_name() == {"a": ["1", "5", "9"], "b": ["3", "7", "1"], "": ["4", "8", "2"]}
    with pytest.raises(IndexError):
        rows[3]
