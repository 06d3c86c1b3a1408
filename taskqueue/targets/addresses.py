"""The address table: what each special network is, and which text is an address at all. Pure data and arithmetic.

1. `parse_address("0x7f.1")` gives `IPv4Address("127.0.0.1")`: every form that `getaddrinfo` takes for an address.
2. `unwrapped(IPv6Address("::ffff:10.0.0.1"))` gives the IPv4 address that a packet would go to.
3. `network_of(IPv4Address("10.0.0.1"))` gives the row of `TABLE` that it is in; None for a public address.

Python's `is_global` would not do: in 3.11 it calls 64:ff9b::a9fe:a9fe, 2002:7f00:1::1, fec0::1 and 168.63.129.16
global, and its answers differ between 3.11 and 3.13. The rows are those of IANA's special-purpose registries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Row:
    """A network that is not public."""

    network: Network
    rule: str
    """The name of the rule, for people: an outcome names it."""
    local: bool = False
    """Whether the policy `private` opens it."""
    always: bool = False
    """Whether it is denied under every policy, but for what `targets_allow` names."""


def _network(text: str) -> Network:
    return IPv6Network(text) if ":" in text else IPv4Network(text)


def _rows(rule: str, *networks: str, local: bool = False, always: bool = False) -> tuple[Row, ...]:
    return tuple(Row(_network(text), rule, local, always) for text in networks)


TABLE: tuple[Row, ...] = (
    # clouds answer here with the credentials of the machine: AWS, GCP and Azure, ECS, Azure, Alibaba, Oracle; AWS, GCP
    *_rows("metadata", "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", always=True),
    *_rows("metadata", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", always=True),
    *_rows("link-local", "169.254.0.0/16", "fe80::/10", always=True),
    *_rows("loopback", "127.0.0.0/8", "::1", local=True),
    *_rows("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", local=True),
    *_rows("unspecified", "0.0.0.0/8", "::"),  # 0.0.0.0 connects to this host
    *_rows("shared", "100.64.0.0/10"),
    *_rows("documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    *_rows("benchmark", "198.18.0.0/15"),
    *_rows("multicast", "224.0.0.0/4", "ff00::/8"),
    *_rows("broadcast", "255.255.255.255"),
    *_rows("reserved", "192.0.0.0/24", "240.0.0.0/4", "100::/64", "5f00::/16", "fec0::/10"),
    *_rows("6to4", "192.88.99.0/24", "2002::/16"),
    *_rows("teredo", "2001::/32"),
    *_rows("nat64", "64:ff9b::/96", "64:ff9b:1::/48"),
    *_rows("v4-compatible", "::/96"),
)
"""Every network that is not public. The first row that an address is in counts."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_BY_FAMILY = {version: tuple(row for row in TABLE if row.network.version == version) for version in (4, 6)}
_LOW_32_BITS = 0xFFFFFFFF


def network_of(address: Address) -> Row | None:
    """The row that `address` is in; None for a public one. Unwrap it first."""
    return next((row for row in _BY_FAMILY[address.version] if address in row.network), None)


def unwrapped(address: Address) -> Address:
    """The IPv4 address of an IPv4-mapped one (`::ffff:0:0/96`), for the kernel connects to that; others as they are."""
    if isinstance(address, IPv6Address) and address in _MAPPED:
        return IPv4Address(int(address) & _LOW_32_BITS)
    return address


def embedded(address: Address, rule: str) -> Address | None:
    """The IPv4 address that a gateway takes out of an address whose row has this `rule`; None where there is none."""
    if address.version == 4:
        return None
    match rule:
        case "nat64" | "v4-compatible":
            return IPv4Address(int(address) & _LOW_32_BITS)
        case "6to4":
            return IPv4Address(int(address) >> 80 & _LOW_32_BITS)
        case "teredo":
            return IPv4Address(~int(address) & _LOW_32_BITS)
    return None


_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+", re.ASCII)


def parse_address(text: str) -> Address | None:
    """The address that `text` is, also in the legacy forms of `inet_aton`; None for a name.

    An IPv6 address may be in brackets. Raises `ValueError` for what ends in a number and is no address (`1.2.3.4.5`,
    `0x7f.example.1`), and for a zone id (`fe80::1%eth0`): no name of the DNS looks like that.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            raise ValueError("brackets are for IPv6 addresses")
    if ":" in text:
        if "%" in text:
            raise ValueError("an address with a zone id")
        return IPv6Address(text)
    parts = text.removesuffix(".").split(".")
    if _NUMBER.fullmatch(parts[-1]) is None:
        return None
    return IPv4Address(_aton(parts))


def _aton(parts: list[str]) -> int:
    """`inet_aton` on the parts between dots: the last one fills all bytes that are left."""
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError("no address, and its last label is a number")
    *heads, last = map(_number, parts)
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        raise ValueError("an IPv4 address with a part out of range")
    return sum(head << 8 * (3 - at) for at, head in enumerate(heads)) + last


def _number(part: str) -> int:
    """One part: hexadecimal after 0x, octal after 0, else decimal. Raises `ValueError` for what is none."""
    if len(part) > 20:
        raise ValueError("an IPv4 address with a part out of range")
    if re.fullmatch(r"0[0-9]*[89][0-9]*", part):
        raise ValueError("an IPv4 address with an octal part that has an 8 or a 9")
    if part[:2] in {"0x", "0X"}:
        return int(part[2:] or "0", 16)
    return int(part, 8 if len(part) > 1 and part[0] == "0" else 10)
