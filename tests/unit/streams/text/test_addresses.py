from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.text.addresses import lasting_address

BASE = "https://cdn.example/post/7/1.mp3"
EXPIRING = {
    "token-hash=AB1&token-time=1704700800": "",
    "token=eyJh.bGci.x": "",
    "access_token=a&id=3": "id=3",
    "authToken=a": "",
    "auth=123": "",
    "Expires=1704700800&Signature=a~b&Key-Pair-Id=APKAEXAMPLE": "",
    "Policy=eyJTdGF0ZW1lbnQi&Signature=a&Key-Pair-Id=APKAEXAMPLE": "",
    "AWSAccessKeyId=AKIAEXAMPLE&Expires=1704700800&Signature=a%3D": "",
    "X-Amz-Algorithm=AWS4&X-Amz-Date=20240108T060000Z&X-Amz-Expires=60&X-Amz-Signature=a": "",
    "x-goog-signature=a&X-Goog-Date=b&v=2": "v=2",
    "sv=2022-11-02&st=2024-01-08T06%3A00%3A00Z&se=2024-01-09&sr=b&sp=r&sig=a%2Fb": "",
    "hdnts=exp=1704700800~acl=/*~hmac=ab": "",
    "md5=Qk1zVGhpcw&expires=1704700800": "",
    "file=2.mp3&sig=abc&ts=1704700800": "file=2.mp3",
    "start=10&token=a": "start=10",
    "id=3&e=1704700800&h=0123456789abcdef": "id=3",
    "st=9b74c9897bac770ff_Q-aA&e=1704700800": "",
    "validto=1704700800&hash=uM8Q2bM3Zk5b6hGq": "",
    "s=0123456789abcdef&t=1704700800123": "",
    "verify=1704700800-Zm9vYmFy%3D": "",
    "PHPSESSID=0a1b2c&id=3": "id=3",
    "sign=1704700800-a1b2c3d4-0-e5f6a7b8": "",
    "secure=Qk1zVGhpcwQk1zVGhpcw,1704700800": "",
    "q-sign-algorithm=sha1&q-sign-time=1;2&q-key-time=1;2&q-signature=ab": "",
    "wsSecret=ab12&wsTime=1704700800&id=3": "id=3",
    "secret=ab12&id=3": "id=3",
    "_wpnonce=a1b2c3d4e5&id=3": "id=3",
    "Authorization=3_20240108_ab12": "",
    "timestamp=1704700800&sign=0123456789abcdef": "",
    "cf_sig=ab&ValidUntil=1704700800&ri=1": "ri=1",
    "sig=ab&ip=192.0.2.17": "",
    "key=episode-0001&token=a": "key=episode-0001",
}
NAMING = [
    "",
    "?file=2.mp3",
    "?id=2",
    "?key=2.mp3",
    "?hash=0123456789abcdef",
    "?updated=1704700800",
    "?t=1704700800",
    "?v=3#t=10",
    "?e=12&h=0123456789abcdef",
    "?e=1704700800&h=interview-of-two-people",
    "?e=1704700800&name=0123456789abcdef",
    "?verify=1",
    "?design=1&sign=2&author=3&expert=4",
    "?sign=aries",
    "?time=evening&sign=leo",
    "?secure=1",
]


@pytest.mark.parametrize(("query", "lasting"), EXPIRING.items())
def test_what_expires_is_left_out(query: str, lasting: str) -> None:
    assert lasting_address(f"{BASE}?{query}") == BASE + (f"?{lasting}" if lasting else "")


@pytest.mark.parametrize("rest", NAMING)
def test_what_names_a_file_stays(rest: str) -> None:
    assert lasting_address(BASE + rest) == BASE + rest


def test_a_signed_address_of_another_file_is_another() -> None:
    one, two = (f"{BASE}?key={name}&sig=x" for name in ("1.mp3", "2.mp3"))
    assert lasting_address(one) != lasting_address(two)


@given(st.text())
def test_the_lasting_address_lasts(url: str) -> None:
    for address in (url, f"https://a.example/?{url}"):
        once = lasting_address(address)
        assert lasting_address(once) == once
