"""Every stage and every edge of the graph, once, a file for each step of the river."""

from __future__ import annotations

from topology.model import Stage
from topology.stages import (
    engagement,
    events,
    history,
    ingest,
    recommendation,
    serving,
    transcripts,
)

STAGES: tuple[Stage, ...] = (
    *ingest.STAGES,
    *transcripts.STAGES,
    *events.STAGES,
    *engagement.STAGES,
    *history.STAGES,
    *recommendation.STAGES,
    *serving.STAGES,
)
"""All that are declared, in the order of the river."""
