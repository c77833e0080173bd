"""A Faust worker of one probe.

Usage: ``python probe_worker.py NAME WEB_PORT``, the environment as a worker's.
"""

from __future__ import annotations

import sys

from schemas.registry import FixedRegistry
from streams.runtime.faust.stage_app import stage_context
from tests.broker.probe import declared
from topology.settings import get_settings

name, port = sys.argv[1:]
parts = declared(name)
app = stage_context(parts.stage, get_settings(), parts.graph, FixedRegistry({}), web=True).app
sys.argv[1:] = ["worker", "--web-port", port]
app.main()
