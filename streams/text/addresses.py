"""Addresses without what expires: private feeds sign every address anew on every poll."""

from __future__ import annotations

import re
from urllib.parse import unquote

_PART = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")
# Part of the name of a parameter that is a signature, a token, or says until when it holds.
_TELLING = re.compile(r"token|signature|hmac|expir|secret|nonce", re.I)
_TELLING_PARTS = {
    *("phpsessid", "jsessionid", "sig", "lsig", "signed", "exp", "jwt", "auth"),
    *("hdnts", "hdnea", "hdntl", "gda", "authorization"),
}
_TELLING_FAMILIES = ("x-amz-", "x-goog-", "q-sign", "q-key-time")
# These say nothing by themselves, but go with a signature: what it was made with, and for whom.
_WITH_A_SIGNATURE = {
    *("policy", "key-pair-id", "awsaccesskeyid", "googleaccessid", "accesskeyid", "ossaccesskeyid"),
    *("keyname", "key_id", "key", "k", "hash", "md5", "sha1", "sha256", "digest", "h", "hs"),
    *("t", "ts", "time", "timestamp", "e", "ttl", "start", "end", "from", "until", "issued"),
    *("validfrom", "validto", "valid_from", "valid_to", "iat", "nbf", "acl", "l", "ip"),
    *("validuntil", "valid-until", "valid_until", "wstime", "txtime", "q-ak", "s", "sign"),
    *("uid", "user", "sv", "st", "se", "sr", "sp", "spr", "sip", "ss", "srt", "sdd"),
    *("ske", "skoid", "sks", "skt", "sktid", "skv"),
}
# A digest, a key or a moment; a number of few digits or a name may be that of a file.
_OPAQUE = re.compile(
    r"[A-Za-z0-9+/_=~-]{8,}|[0-9]{10,}|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T%0-9A-Za-z:.-]*"
)
# Words and numbers with hyphens between them, as files have for names.
_SLUG = re.compile(r"[A-Za-z]{3,20}(?:[-_](?:[a-z]{3,20}|[0-9]{1,5}))+")
_OF_AZURE = re.compile(r"s(?!ha|tart)[a-z]{1,4}")
# Names too short to tell by themselves: until when an address holds, and the digest that says so.
_MOMENT = re.compile(r"(?:[0-9]{3})?[0-9]{10}")
_DIGEST = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9+/_=~-]{16,}")
_MOMENTS = (
    *("e", "t", "ts", "time", "timestamp", "until"),
    *("validto", "valid_to", "validuntil", "valid-until", "valid_until"),
)
_DIGESTS = ("h", "hs", "s", "st", "hash", "md5", "sign")
_MOMENT_AND_DIGEST = re.compile(
    r"[0-9]{10}[-_,:~][A-Za-z0-9%+/_=~-]{6,}|[A-Za-z0-9%+/_=~-]{16,}[,:~][0-9]{10}"
)
_HOLDING_BOTH = ("verify", "sign", "secure", "s", "md5", "hash")


def lasting_address(url: str) -> str:
    """An address without the parameters of its query that change though the file does not.

    Those are tokens, signatures and moments of expiry by their names, and beside them what they
    are usually made with, such as a key or a hash. Whatever else the query says names the file and
    stays, byte for byte and in its order; so does an address without any of it.
    """
    before, mark, rest = url.partition("?")
    if not mark or not before.lower().startswith(("http://", "https://")):
        return url
    query, hash_mark, fragment = rest.partition("#")
    parts = query.split("&")
    telling = [_is_telling(part) for part in parts]
    if not any(telling):
        telling = _moment_and_digest(parts)
    if not any(telling):
        return url
    kept = [
        part
        for part, tells in zip(parts, telling, strict=True)
        if not tells and not _goes_with_a_signature(part)
    ]
    return before + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def _is_telling(part: str) -> bool:
    name = unquote(part.partition("=")[0].removeprefix("amp;"))[:100]
    value = part.partition("=")[2]
    if name.lower() in _HOLDING_BOTH and _MOMENT_AND_DIGEST.fullmatch(value):
        return True
    if _TELLING.search(name) or name.lower().startswith(_TELLING_FAMILIES):
        return True
    return any(word.lower() in _TELLING_PARTS for word in _PART.findall(name))


def _moment_and_digest(parts: list[str]) -> list[bool]:
    """Which parts are a moment of expiry and its digest, as `e=1704700800&h=9b74c9897bac770f`."""
    named = [part.removeprefix("amp;").partition("=") for part in parts]
    moments = [n.lower() in _MOMENTS and bool(_MOMENT.fullmatch(v)) for n, _, v in named]
    digests = [n.lower() in _DIGESTS and bool(_DIGEST.fullmatch(unquote(v))) for n, _, v in named]
    both = any(moments) and any(digests)
    return [both and (at or by) for at, by in zip(moments, digests, strict=True)]


def _goes_with_a_signature(part: str) -> bool:
    name, _, value = part.removeprefix("amp;").partition("=")
    name = unquote(name)[:100].lower()
    if name not in _WITH_A_SIGNATURE:
        return False
    # Azure's words are short, and their values as well.
    plain = unquote(value)
    if _OF_AZURE.fullmatch(name):
        return True
    return bool(_OPAQUE.fullmatch(plain)) and not _SLUG.fullmatch(plain)
