"""Keeps pandas out of processes that have no use for it.

pyarrow loads pandas, where it is installed, to ask whether a list to convert is one of its series.
That costs a process more than a second when it starts, and 50 MB for as long as it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType


class _Kept(MetaPathFinder, Loader):
    """Finds pandas, and cannot load it: to libraries that do without it, it is not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname == "pandas" else None

    def exec_module(self, module: ModuleType) -> None:
        raise ModuleNotFoundError("this process does without pandas", name=module.__name__)


def keep_pandas_out() -> None:
    """From now on this process cannot import pandas; nothing changes where it has by now."""
    sys.meta_path.insert(0, _Kept())
