"""Known vulnerabilities of the pins, as far as the package registry tells of them.

pip-audit asks about each pin of `requirements.lock` and `installer.lock`. One is asked about first,
so that a registry that keeps no such records, or cannot be reached, costs one request and is a
line, not a failure. A finding fails unless `accepted-vulnerabilities.txt` lists it with a reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCKS = tuple(HERE.parent / name for name in ("requirements.lock", "installer.lock"))
ACCEPTED = HERE / "accepted-vulnerabilities.txt"
CACHE = HERE.parent / ".audit_cache"
LONGEST_S = 120


def ask(pins: Iterable[str]) -> list[dict[str, Any]] | None:
    """A record of each ``name==version`` that the registry knows; None without an answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(pins))
        listed.flush()
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps"]
        command += ["--requirement", listed.name, "--cache-dir", str(CACHE)]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
            told: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError):
            return None
    return [record for record in told if "skip_reason" not in record] or None


def findings(told: Iterable[dict[str, Any]], accepted: Iterable[str]) -> list[str]:
    """A line for each vulnerability that is not accepted under its id or under another name."""
    known = set(accepted)
    return [
        f"{record['name']} {record['version']}: {found['id']}, "
        f"mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for record in told
        for found in record["vulns"]
        if known.isdisjoint([found["id"], *found.get("aliases", ())])
    ]


def main() -> int:
    """Exit status: 1 where a pin has a known vulnerability that nobody has accepted."""
    lines = [line for lock in LOCKS for line in lock.read_text(encoding="utf-8").splitlines()]
    pins = sorted({line.split()[0] for line in lines if line[:1].isalpha() and "==" in line})
    told = ask(pins) if ask(pins[:1]) else None
    if told is None:
        print("The registry tells of no vulnerabilities, so that none were looked for.")
        return 0
    accepted = [
        line.split()[0]
        for line in ACCEPTED.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    found = findings(told, accepted)
    print(
        f"{len(found)} known vulnerabilities in {len(told)} of {len(pins)} pins.", *found, sep="\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
