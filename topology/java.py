"""Finds the Java that runs the embedded services."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

MINIMUM_JAVA = 17

ADVICE = (
    f"Install a JDK or JRE of version {MINIMUM_JAVA} or newer (Debian/Ubuntu: `apt install "
    "openjdk-17-jre-headless`, macOS: `brew install openjdk@17`) or point JAVA_HOME at one."
)


class JavaError(RuntimeError):
    """Java is missing or too old; the message says what to do."""


def java_executable() -> str:
    """Path of the `java` to use: that of JAVA_HOME, else the first on PATH. Raises JavaError."""
    home = os.environ.get("JAVA_HOME")
    if home and (java := Path(home) / "bin" / "java").exists():
        return str(java)
    if found := shutil.which("java"):
        return found
    raise JavaError(f"Java was not found. {ADVICE}")


@lru_cache(maxsize=4)
def java_version(java: str) -> int:
    """Feature version of a `java` executable (17, 21, ...). Raises JavaError."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"{java} could not be run ({error}). {ADVICE}") from error
    match = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    if shown.returncode or not match:
        raise JavaError(f"{java} -version says {shown.stderr.strip()!r}. {ADVICE}")
    return int(match.group(1))


def require_java() -> str:
    """Path of a Java that is new enough. Raises JavaError."""
    java = java_executable()
    if (version := java_version(java)) < MINIMUM_JAVA:
        raise JavaError(f"{java} is version {version}, which is too old. {ADVICE}")
    return java
