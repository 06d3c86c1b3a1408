"""The rules of an operator on targets, and the verdict on one address: may it be connected to? Pure.

    policy = make_policy("private", allow=["10.0.0.5:5432", "*.corp.example"], deny=["192.168.7.0/24"])
    judge("10.1.2.3", 80, policy)             → Verdict(True)
    judge("169.254.169.254", 80, policy)      → Verdict(False, "metadata", "targets_allow")

What counts, in this order:

1. `targets_deny` denies.
2. Metadata and link-local addresses, own listeners and ports of mail, brokers and databases are denied under every
   policy. An entry of `targets_allow` opens them only if it means them: a network that lies within the denied one; an
   entry with that `:port`.
3. `targets_allow` opens everything else that it names. A name stands for whatever it resolves to.
4. The policy: `public` only the Internet, `private` also loopback, RFC 1918 and ULA, `any` everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_network

from taskqueue.errors import ConfigError
from taskqueue.targets.addresses import Address, Network, Row, embedded, network_of, parse_address, unwrapped

DENIED_PORTS = frozenset(
    {
        *(0, 22, 23, 25, 110, 143, 465, 587, 993, 995),  # shells and mail
        *(1883, 4222, 4369, 5671, 5672, 8883, 9092, 15671, 15672, 25672),  # brokers, and their managements
        *(1433, 1521, 2379, 2380, 3306, 5432, 5984, 6379, 9042, 9200, 9300, 11211, 26379, 27017),  # databases, caches
    }
)
"""Ports that no webhook listens on, and whose servers may take an HTTP request for commands."""


class Reach(StrEnum):
    """How far the targets may be; the values of the key `targets`. Each one includes those above it."""

    PUBLIC = "public"
    PRIVATE = "private"
    ANY = "any"


_WIDTH = {reach: width for width, reach in enumerate(Reach)}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of `targets_allow` or `targets_deny`: a network, or a name; with or without a port."""

    network: Network | None
    name: str
    """In lower case; with a leading dot it stands for all names that end so. "" with a network."""
    port: int | None

    def names(self, address: Address, port: int, host: str | None) -> bool:
        """Whether this entry names the target."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address.version == self.network.version and address in self.network
        return host is not None and (host == self.name or (self.name[0] == "." and host.endswith(self.name)))

    def lies_within(self, row: Row) -> bool:
        """Whether this entry is a part of an always-denied network, and so means it."""
        network, denied = self.network, row.network
        return (
            network is not None
            and network.version == denied.version
            and network.prefixlen >= denied.prefixlen
            and network.network_address in denied
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator has said."""

    reach: Reach
    allow: tuple[Entry, ...] = ()
    deny: tuple[Entry, ...] = ()
    own_listeners: frozenset[tuple[Address, int]] = frozenset()
    """Where processes of ours listen. An unspecified address (0.0.0.0, ::) is for all addresses of this host."""

    def narrowed(self, reach: Reach) -> Policy:
        """This policy, reaching no further than `reach`; it is never widened."""
        return self if _WIDTH[reach] >= _WIDTH[self.reach] else replace(self, reach=reach)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target is allowed; if not, why, and what opens it."""

    allowed: bool
    rule: str = ""
    """The name of the rule: a row's of the address table, `port`, `own-listener` or `targets_deny`."""
    key: str = ""
    """What an operator writes to open it."""


ALLOWED = Verdict(True)


def make_policy(
    reach: str,
    *,
    allow: Iterable[str] = (),
    deny: Iterable[str] = (),
    own_listeners: Iterable[tuple[str, int]] = (),
) -> Policy:
    """A policy of texts as they are in config.ini. Raises `ConfigError` with every fault."""
    faults: list[str] = []
    if reach not in set(Reach):
        faults.append(f"targets: {reach!r}; expected one of {', '.join(Reach)}")
    entries: dict[str, list[Entry]] = {"targets_allow": [], "targets_deny": []}
    for key, texts in (("targets_allow", allow), ("targets_deny", deny)):
        for text in texts:
            try:
                entries[key].append(parse_entry(text))
            except ValueError as error:
                faults.append(
                    f"{key}: {text!r}: {error}; expected a network (10.0.0.0/8), an address, a name or *.name, each "
                    "with or without :port"
                )
    own = set()
    for host, port in own_listeners:
        address = parse_address("127.0.0.1" if host == "localhost" else host)
        if address is not None:
            own.add((unwrapped(address), port))
    if faults:
        raise ConfigError(faults)
    return Policy(Reach(reach), tuple(entries["targets_allow"]), tuple(entries["targets_deny"]), frozenset(own))


def parse_entry(text: str) -> Entry:
    """`10.0.0.0/8`, `[fd00::/8]:443`, `fd00::1`, `db.example:5432`, `*.example`. Raises `ValueError` for other text."""
    rest, port = text.strip().lower(), None
    host, colon, digits = rest.rpartition(":")
    if colon and (":" not in host or host.endswith("]")):
        if not (digits.isascii() and digits.isdigit() and int(digits) < 65_536):
            raise ValueError("no port behind the colon")
        rest, port = host, int(digits)
    if rest.startswith("[") and rest.endswith("]"):
        rest = rest[1:-1]
    if "/" in rest:
        return Entry(ip_network(rest), "", port)
    address = parse_address(rest)
    if address is not None:
        return Entry(ip_network(unwrapped(address)), "", port)
    name = rest.removeprefix("*") if rest.startswith("*.") else rest
    if not name.strip(".") or not all(letter.isalnum() or letter in "-._" for letter in name):
        raise ValueError("neither an address nor a name")
    name = name.removesuffix(".")
    return Entry(None, name if name.isascii() else name.encode("idna").decode(), port)


def _loopback_only(address: Address) -> bool:
    return address.is_loopback


def judge(
    address: str | Address,
    port: int,
    policy: Policy,
    *,
    host: str | None = None,
    is_own: Callable[[Address], bool] = _loopback_only,
) -> Verdict:
    """May `address` and `port` be connected to?

    `host` is the name that was resolved to it, for entries that are names; None for a literal address. `is_own` tells
    whether an address is one of this host's, for listeners on all of them. Raises `ValueError` for an `address` that is
    none, or has a zone id.
    """
    parsed = parse_address(address) if isinstance(address, str) else address
    if parsed is None:
        raise ValueError(f"{address!r:.80} is no address")
    target = unwrapped(parsed)
    host = host.lower().removesuffix(".") if host is not None else None
    if any(entry.names(target, port, host) for entry in policy.deny):
        return Verdict(False, "targets_deny", "targets_deny")
    named = [entry for entry in policy.allow if entry.names(target, port, host)]
    by_port = any(entry.port is not None for entry in named)
    row = network_of(target)
    always = _always_denied(target, row)
    if always is not None and not any(entry.lies_within(always) for entry in named):
        return Verdict(False, always.rule, "targets_allow")
    if not by_port and _is_own_listener(target, port, policy.own_listeners, is_own):
        return Verdict(False, "own-listener", "targets_allow with the port")
    if not by_port and port in DENIED_PORTS:
        return Verdict(False, "port", "targets_allow with the port")
    if named or row is None or policy.reach is Reach.ANY or (row.local and policy.reach is Reach.PRIVATE):
        return ALLOWED
    return Verdict(False, row.rule, f"targets: {Reach.PRIVATE if row.local else Reach.ANY}, or targets_allow")


def _always_denied(target: Address, row: Row | None) -> Row | None:
    """The row of a metadata or link-local address, also of one inside of an address for a gateway."""
    if row is None or row.always:
        return row
    inner = embedded(target, row.rule)
    found = network_of(inner) if inner is not None else None
    return found if found is not None and found.always else None


def _is_own_listener(
    target: Address, port: int, listeners: Collection[tuple[Address, int]], is_own: Callable[[Address], bool]
) -> bool:
    return any(
        port == listening
        and (target == address or (address.is_unspecified and (target.is_unspecified or is_own(target))))
        for address, listening in listeners
    )
