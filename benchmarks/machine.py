"""What a benchmark says of the machine that it ran on, and how it prints what it found."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, Any]:
    """Processor, cores and memory."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return {
        "processor": model,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


def report(name: str, figures: dict[str, Any]) -> None:
    """Print one JSON document."""
    print(json.dumps({"benchmark": name, "machine": describe(), **figures}, indent=2))
