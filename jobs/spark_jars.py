"""The Java parts, resolved once into a local folder by the Ivy that PySpark ships."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from topology.java import require_java

IVY_FILE = Path(__file__).with_name("ivy.xml")
CONFS = ("kafka", "spark")
_PATTERN = "[conf]/[artifact]-[revision](-[classifier]).[ext]"


class JarsError(RuntimeError):
    """The jars could not be had; the message says what to do."""


def jar_root() -> Path:
    """Where the jars lie: ``$PODSTREAM_JARS``, else ``.jars`` beside the sources."""
    chosen = os.environ.get("PODSTREAM_JARS")
    return Path(chosen).expanduser() if chosen else IVY_FILE.parents[1] / ".jars"


def jars_ready() -> bool:
    """Whether the jars that `ivy.xml` asks for are all there."""
    stamp = jar_root() / "stamp"
    return stamp.exists() and stamp.read_text() == _wanted()


def ensure_jars() -> None:
    """Resolve the jars unless they are there. Tells its progress on stderr. Raises JarsError."""
    if jars_ready():
        return
    with _locked(jar_root()) as root:
        if jars_ready():  # another process was faster
            return
        _resolve(root)


def jar_paths(conf: str) -> list[Path]:
    """The jars of a configuration (``kafka`` or ``spark``). Raises JarsError."""
    if conf not in CONFS:
        raise ValueError(f"No jar configuration {conf!r}: there are {', '.join(CONFS)}.")
    ensure_jars()
    return sorted((jar_root() / conf).glob("*.jar"))


def classpath(conf: str) -> str:
    """The jars of a configuration as a Java class path."""
    return os.pathsep.join(str(path) for path in jar_paths(conf))


def _wanted() -> str:
    return hashlib.sha256(IVY_FILE.read_bytes()).hexdigest()


@contextmanager
def _locked(root: Path) -> Iterator[Path]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root


def _ivy_jar() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsError("PySpark is not installed, and it brings Ivy: run `make setup`.")
    found = sorted((Path(spec.origin).parent / "jars").glob("ivy-*.jar"))
    if not found:
        raise JarsError("This PySpark has no Ivy in its jars folder: run `make setup` again.")
    return found[-1]


def _resolve(root: Path) -> None:
    fresh = root / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    argv = [require_java(), "-cp", str(_ivy_jar()), "org.apache.ivy.Main"]
    argv += ["-ivy", str(IVY_FILE), "-retrieve", str(fresh / _PATTERN)]
    started = time.monotonic()
    print("Resolving the Java parts (once, about 70 MB) …", file=sys.stderr, flush=True)
    with (
        (root / "resolve.log").open("w") as log,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as ivy,
    ):
        assert ivy.stdout is not None  # noqa: S101  for the type checker: PIPE was asked for
        _follow(ivy.stdout, log)
    if ivy.returncode or not all(any((fresh / conf).glob("*.jar")) for conf in CONFS):
        raise JarsError(
            "The Java parts could not be resolved: this step needs a network once. Behind a proxy, "
            "give Java its settings (JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=… -Dhttps.proxyPort=… "
            "-Djavax.net.ssl.trustStore=…') and run `make setup` again. "
            f"What Ivy said: {root / 'resolve.log'}"
        )
    for conf in CONFS:
        shutil.rmtree(root / conf, ignore_errors=True)
        (fresh / conf).rename(root / conf)
    fresh.rmdir()
    (root / "stamp").write_text(_wanted())
    count = sum(1 for _ in root.glob("*/*.jar"))
    print(
        f"Resolved {count} jars into {root} in {time.monotonic() - started:.0f} s.",
        file=sys.stderr,
        flush=True,
    )


def _follow(lines: IO[str], log: IO[str]) -> None:
    """Log Ivy's output, and say now and then how far it is."""
    found = fetched = 0
    told = time.monotonic()
    for line in lines:
        log.write(line)
        found += line.startswith("\tfound ")
        fetched += "[SUCCESSFUL ]" in line
        if time.monotonic() - told > 3:
            told = time.monotonic()
            print(f"  {found} modules found, {fetched} jars fetched", file=sys.stderr, flush=True)
