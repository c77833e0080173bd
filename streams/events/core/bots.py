"""Who is no listener: crawlers and feed fetchers, by what they say they are."""

from __future__ import annotations

from functools import lru_cache

from crawleruseragents import is_crawler

_PLAYER = "podcast app"
"""How players describe themselves, such as Overcast, in an agent that otherwise looks a crawler's
for the address in it."""


@lru_cache(maxsize=10_000)
def is_bot(user_agent: str) -> bool:
    """Whether an HTTP user agent is a known crawler's."""
    return is_crawler(user_agent) and _PLAYER not in user_agent
