"""Who may ask the API."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from streams.api.access import is_exposed, is_let_in, is_local_host, refusal
from topology.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


def settings(host: str, token: str = "") -> Settings:
    return Settings(api_host=host, api_token=SecretStr(token))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert not is_exposed(settings(host))
    assert refusal(settings(host)) == ""
    assert is_let_in(settings(host), "")


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:1", "127.0.0.1:19096", "127.0.0.2", "::1", "[::1]", "[::1]:80"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x"),
        *("evil@127.0.0.1", "127.0.0.1/evil", "127.0.0.1 ", EVERYWHERE, "10.1.2.3", "[::2]:80"),
        *("[::1", "::1]", "[localhost]", "127.0.0.1:80:80", "[::1]evil.example"),
    ],
)
def test_names_of_others(host: str) -> None:
    assert not is_local_host(host)


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "10.1.2.3", "api.example"])
def test_where_others_come_in_a_token_must_be_set(host: str) -> None:
    assert "API_TOKEN" in refusal(settings(host))
    assert host in refusal(settings(host))
    assert refusal(settings(host, "secret")) == ""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer secret", True),
        ("bearer secret", True),
        ("Bearer secret2", False),
        ("Bearer", False),
        ("", False),
        ("Basic secret", False),
        ("secret", False),
    ],
)
def test_the_token_is_borne_as_such(header: str, expected: bool) -> None:
    assert is_let_in(settings("127.0.0.1", "secret"), header) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (EVERYWHERE, "http://127.0.0.1:19096"),
        ("::1", "http://[::1]:19096"),
        ("10.1.2.3", "http://10.1.2.3:19096"),
    ],
)
def test_the_address_is_one_that_can_be_asked(host: str, expected: str) -> None:
    chosen = Settings(api_host=host, podstream_port_base=19090, api_port=0)
    assert chosen.api_url == expected
