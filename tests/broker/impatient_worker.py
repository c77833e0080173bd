"""A Faust worker whose Faust complains after two seconds of what it takes for standing still.

Usage: ``python impatient_worker.py WEB_PORT``, the environment as a worker's.
"""

from __future__ import annotations

import sys

from streams.app import app

app.conf.stream_processing_timeout = 2.0
app.conf.broker_commit_livelock_soft_timeout = 2.0

sys.argv[1:] = ["worker", "--web-port", sys.argv[1], "-l", "warn"]
app.main()
