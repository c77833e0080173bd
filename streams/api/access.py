"""Who may ask the API: everybody on this machine, and elsewhere whoever has the token."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from topology.settings import Settings

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""What a browser on this machine calls it. By another name, a page of a stranger may have led it
here."""


def is_exposed(settings: Settings) -> bool:
    """Whether others than this machine can reach the API."""
    try:
        return not ip_address(settings.api_host).is_loopback
    except ValueError:
        return settings.api_host != "localhost"


def refusal(settings: Settings) -> str:
    """Why the API must not be served with these settings; empty if it may."""
    if is_exposed(settings) and not settings.api_token.get_secret_value():
        return (
            f"API_HOST={settings.api_host} lets other machines ask the API: set API_TOKEN too, or "
            "leave API_HOST out."
        )
    return ""


def is_let_in(settings: Settings, authorization: str) -> bool:
    """Whether a request may be answered, by the value of its `Authorization` header."""
    token = settings.api_token.get_secret_value()
    scheme, _, given = authorization.partition(" ")
    return not token or (
        scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
    )
