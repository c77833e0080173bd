"""Who may ask the API: everybody on this machine, and elsewhere whoever has the token."""

from __future__ import annotations

import hmac
import re
from ipaddress import ip_address

from topology.settings import Settings

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+))(?::\d{1,5})?")


def is_local(name: str) -> bool:
    """Whether a host's name or address is this machine's own, on the loopback interface."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def is_local_host(header: str) -> bool:
    """Whether a request's `Host` names this machine by one of its own names.

    By another one, a page of a stranger may have led a browser here.
    """
    if (parts := _HOST.fullmatch(header)) is None:
        return is_local(header)  # an address of IPv6 without brackets
    return is_local(parts[1] or parts[2])


def is_exposed(settings: Settings) -> bool:
    """Whether others than this machine can reach the API."""
    return not is_local(settings.api_host)


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
