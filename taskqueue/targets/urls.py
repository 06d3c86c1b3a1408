"""What a URL says before anybody connects, and everything that is wrong with one. Pure.

`check_url("HTTP://Example.com/a?b#c")` gives `ParsedUrl(url="http://example.com:80/a?b", host="example.com", port=80,
origin="http://example.com:80", address=None)`; `http://2130706433/` has the address 127.0.0.1. What connects must use
`url`, never the client's text: two parsers that differ are a hole. This module must never resolve a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from taskqueue.errors import TargetRefused
from taskqueue.targets.addresses import Address, parse_address, unwrapped

__all__ = ["URL_LIMIT", "ParsedUrl", "TargetRefused", "check_url"]

URL_LIMIT = 8_192
"""Bytes of a URL, as most servers have it."""
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_NAME = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """A URL that may be sent to, as far as its text tells."""

    url: str
    """What to hand to the HTTP library: ASCII, with the port, without fragment; the path as the client wrote it."""
    scheme: str
    """`http` or `https`."""
    host: str
    """A name in lower-case ASCII (IDNA), or an address in its usual form, IPv6 without brackets."""
    port: int
    origin: str
    """`scheme://host:port`, one for all spellings."""
    address: Address | None
    """Where the host is a literal address, that address, IPv4-mapped ones unwrapped: judge it. None for a name."""


def check_url(text: object) -> ParsedUrl:
    """Take a URL apart. Raises `TargetRefused` with one line that says what is wrong."""
    if not isinstance(text, str):
        raise TargetRefused(f"the URL is {type(text).__name__}; expected text")
    if len(text) > URL_LIMIT or (not text.isascii() and len(text.encode(errors="surrogatepass")) > URL_LIMIT):
        raise TargetRefused(f"the URL is longer than {URL_LIMIT} bytes")
    return _parsed(text)


@lru_cache(256)
def _parsed(text: str) -> ParsedUrl:
    """`check_url` of a text that is short enough to be remembered: most tasks of a queue have the same few URLs."""
    if not text.isprintable() or " " in text:  # of all blanks only U+0020 is printable
        letter = next(each for each in text if not each.isprintable() or each == " ")
        raise TargetRefused(f"the URL has the character U+{ord(letter):04X}; encode it as in %20")
    found = _URL.fullmatch(text)
    if found is None:
        raise TargetRefused("the URL is not absolute; expected http://… or https://…")
    scheme, authority, path, query = found[1].lower(), found[2], found[3] or "/", found[4] or ""
    if scheme not in _PORTS:
        raise TargetRefused(f"the URL has the scheme {scheme[:20]}; expected http or https")
    base, host, port, origin, address = _checked_authority(scheme, authority)
    tail = path + query
    if not tail.isascii():
        tail = quote(tail, safe="!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return ParsedUrl(base + tail, scheme, host, port, origin, address)


@lru_cache(1024)
def _checked_authority(scheme: str, authority: str) -> tuple[str, str, int, str, Address | None]:
    """What comes before the path, as it is to be written; host, port, origin and literal address."""
    host, port = _host_and_port(authority, _PORTS[scheme])
    name, address = _checked_host(host)
    written = f"[{name}]" if ":" in name else name
    return f"{scheme}://{written}:{port}", name, port, f"{scheme}://{written.removesuffix('.')}:{port}", address


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    if "@" in authority:
        raise TargetRefused("the URL has a user name or password before its host; send a header Authorization instead")
    host, colon, digits = authority.rpartition(":")
    if not colon or digits.endswith("]"):
        host, digits = authority, ""
    if not host:
        raise TargetRefused("the URL has no host")
    if not digits:
        return host, default
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65_536):
        raise TargetRefused("the URL has a port that is no number from 1 to 65535")
    return host, int(digits)


def _checked_host(host: str) -> tuple[str, Address | None]:
    """The host as it is to be written, and the address that it is. IDNA comes first: ideographic dots and full-width
    digits become an address by it."""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise TargetRefused("the URL has a host that is no internationalised name (IDNA)") from error
    host = host.lower()
    try:
        address = parse_address(host)
    except ValueError as error:
        raise TargetRefused(f"the URL has a host that is neither a name nor an address: {error}") from error
    if address is not None:
        address = unwrapped(address)
        return str(address), address
    if _NAME.fullmatch(host) is None:
        raise TargetRefused("the URL has a host that is neither a name nor an address")
    return host, None
