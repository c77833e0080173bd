"""The metrics that are counted of episodes: every list of them is made of these.

What each one means, and its unit, stand with the fields of `engagement_window.avsc`,
`rolling_window.avsc`, `episode_day.avsc` and `user_episode_daily.avsc`.
"""

from __future__ import annotations

EVENT_COUNTS = ("impressions", "clicks", "plays", "completes")
"""How many events there were of a kind, which has the same name without the s."""

EVENT_SUMS = (*EVENT_COUNTS, "heard_ms")
"""What is a sum over single events."""

ADDITIVE_METRICS = (*EVENT_SUMS, "streams")
"""What adds up over minutes, episodes and source partitions."""

AUDIENCE_METRICS = ("listeners", "engaged")
"""Distinct listeners: they add up over source partitions only, each of which has its own."""

ROLLING_METRICS = (*ADDITIVE_METRICS, *AUDIENCE_METRICS)
"""The metrics of a rolling window."""

WINDOW_METRICS = (*ROLLING_METRICS, "new_listeners")
"""The metrics of an episode's minute."""

DAY_METRICS = (*ADDITIVE_METRICS, "engaged", "downloads")
"""The metrics of an episode's day."""

OPINIONS = ("likes", "dislikes")
"""Events of a kind that tell whether a listener liked an episode."""

LISTENING_METRICS = (*EVENT_SUMS, *OPINIONS)
"""What adds up of a listener and an episode."""
