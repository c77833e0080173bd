"""The command line answers at once."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pyspark", "torch", "faust", "streamlit", "pandas", "pymongo", "polars")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom streams.cli.main import build_app\nbuild_app()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
