"""The logs of a process: lines of text, or with `LOG_FORMAT=json` one JSON object a line.

An object has `time` (ISO 8601, UTC), `level`, `logger`, `message` and `process`; `stage` where a
stage says it, `trace_id` where it is at a record that belongs to a trace, and `exc_info` with the
traceback of an error.
"""

from __future__ import annotations

import logging
import logging.config
from contextvars import ContextVar
from typing import Any

from streams.monitoring.tracing import current_trace_id
from topology.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"

STAGE: ContextVar[str] = ContextVar("stage", default="")
"""The stage that the running task works for."""


class Where(logging.Filter):
    """Adds to each record where it was written."""

    def __init__(self, process: str):
        super().__init__()
        self._process = process

    def filter(self, record: logging.LogRecord) -> bool:
        """True, for every record."""
        record.process_name = self._process
        if stage := STAGE.get():
            record.stage = stage
        if trace_id := current_trace_id():
            record.trace_id = trace_id
        return True


def json_config(settings: Settings, process: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes for JSON lines on standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"where": {"()": Where, "process": process}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "%(levelname)s %(name)s %(message)s %(process_name)s",
                "rename_fields": {
                    "levelname": "level",
                    "name": "logger",
                    "process_name": "process",
                },
                "timestamp": "time",
            }
        },
        "handlers": {
            "lines": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json",
                "filters": ["where"],
            }
        },
        "root": {"level": settings.log_level, "handlers": ["lines"]},
    }


def set_up_logs(settings: Settings, process: str) -> None:
    """Have this process log as the settings say."""
    if settings.log_format == "json":
        logging.config.dictConfig(json_config(settings, process))
    else:
        logging.basicConfig(level=settings.log_level, format=TEXT)
