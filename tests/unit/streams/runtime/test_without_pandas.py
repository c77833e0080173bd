"""A process that does without pandas never loads it, and pyarrow converts lists all the same."""

from __future__ import annotations

import subprocess
import sys

ARRAYS = """
import sys
{before}
import numpy as np, polars as pl, pyarrow as pa
assert pa.array([1, None]).to_pylist() == [1, None]
assert pa.array(np.ones(2), mask=np.array([True, False])).null_count == 1
assert pl.DataFrame({{"a": ["b"]}}).to_arrow().to_pylist() == [{{"a": "b"}}]
print("pandas" in sys.modules)
"""
KEPT_OUT = """
from streams.runtime.without_pandas import keep_pandas_out
keep_pandas_out()
"""
A_LARGE_FILE = """
import sys
import streams.operations.event_import
import streams.operations.event_reading
print("pandas" in sys.modules)
"""
WORKER = """
import streams.app
try:
    import pandas
except ModuleNotFoundError as error:
    print(error)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pyarrow_does_without_it_where_it_is_kept_out() -> None:
    assert run(ARRAYS.format(before=KEPT_OUT)) == "False"
    assert run(ARRAYS.format(before="")) == "True"  # or there would be nothing to keep out


def test_an_import_of_events_does_not_load_it() -> None:
    assert run(A_LARGE_FILE) == "False"


def test_a_worker_does_without_it() -> None:
    assert run(WORKER) == "this process does without pandas"
