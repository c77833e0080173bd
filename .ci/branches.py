"""Branch coverage of the pure parts, by package, from what `pytest --cov` has measured.

Reads `.coverage`; which files count as pure is said in `pyproject.toml`. Exit status 1 where a
package is below the bound, with the branches that no test takes, and where no test imports a file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

BOUND = 0.95
ROOT = Path(__file__).parents[1]


def main() -> int:
    """Print the table and say what is missing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
        subprocess.run(command, check=True)
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    all_of: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    missing: dict[str, list[str]] = {}
    for path, measured in files.items():
        package = package_of(path)
        all_of[package] += measured["summary"]["num_branches"]
        taken[package] += measured["summary"]["covered_branches"]
        missing.setdefault(package, []).extend(
            f"{path}:{first} -> {'the end' if then < 0 else then}"
            for first, then in measured["missing_branches"]
        )
    low = [package for package in sorted(all_of) if taken[package] < BOUND * all_of[package]]
    for package in sorted(all_of):
        share = taken[package] / (all_of[package] or 1)
        print(f"  {share:7.1%}  {taken[package]:5} of {all_of[package]:5}  {package}")
    total = sum(taken.values()) / sum(all_of.values())
    print(f"  {total:7.1%}  {sum(taken.values()):5} of {sum(all_of.values()):5}  all branches")
    for package in low:
        print(f"{package} is below {BOUND:.0%}. No test takes:", *missing[package], sep="\n  ")
    if unknown := pure_files() - files.keys():
        print("No test imports:", *sorted(unknown), sep="\n  ")
    return 1 if low or unknown else 0


def pure_files() -> set[str]:
    """The files that are measured, relative to the root."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = configured["tool"]["coverage"]["run"]
    found = {
        str(path.relative_to(ROOT))
        for pattern in rules["include"]
        for path in ROOT.glob(f"{pattern}/*.py")
    }
    return found - set(rules["omit"])


def package_of(path: str) -> str:
    """The package that a file is counted under: ``streams/ingest/core``, ``streams/state``."""
    parts = Path(path).parts
    return "/".join(parts[: parts.index("core") + 1] if "core" in parts else parts[:2])


if __name__ == "__main__":
    sys.exit(main())
