"""Judging an address: every network of the table, under every policy, and what opens what."""

from __future__ import annotations

import pytest

from taskqueue.errors import ConfigError
from taskqueue.targets.policy import DENIED_PORTS, Policy, Reach, judge, make_policy

PUBLIC, PRIVATE, ANY = (make_policy(reach) for reach in Reach)

RULES = [
    # (address, rule or "", opened by `private`, opened by `any`)
    ("8.8.8.8", "", True, True),
    ("1.1.1.1", "", True, True),
    ("172.15.255.255", "", True, True),
    ("172.32.0.1", "", True, True),
    ("100.63.255.255", "", True, True),
    ("100.128.0.1", "", True, True),
    ("223.255.255.255", "", True, True),
    ("2606:4700::1111", "", True, True),
    ("2a00:1450::8", "", True, True),
    ("::ffff:8.8.8.8", "", True, True),
    ("2001:1::1", "", True, True),
    ("127.0.0.1", "loopback", True, True),
    ("127.255.255.254", "loopback", True, True),
    ("::1", "loopback", True, True),
    ("::ffff:127.0.0.1", "loopback", True, True),
    ("[::ffff:7f00:1]", "loopback", True, True),
    ("2130706433", "loopback", True, True),
    ("0x7f000001", "loopback", True, True),
    ("0x7f.1", "loopback", True, True),
    ("0177.0.0.1", "loopback", True, True),
    ("017700000001", "loopback", True, True),
    ("127.1", "loopback", True, True),
    ("127.0.1", "loopback", True, True),
    ("0X7F.0.0x0.1", "loopback", True, True),
    ("127.0.0.1.", "loopback", True, True),
    ("10.0.0.1", "private", True, True),
    ("10.255.255.255", "private", True, True),
    ("0xa.1", "private", True, True),
    ("172.16.0.1", "private", True, True),
    ("172.31.255.255", "private", True, True),
    ("192.168.0.1", "private", True, True),
    ("fc00::1", "private", True, True),
    ("fdff::1", "private", True, True),
    ("::ffff:192.168.1.1", "private", True, True),
    ("0", "unspecified", False, True),
    ("0.0.0.0", "unspecified", False, True),
    ("0.1.2.3", "unspecified", False, True),
    ("::", "unspecified", False, True),
    ("::ffff:0.0.0.0", "unspecified", False, True),
    ("100.64.0.1", "shared", False, True),
    ("100.127.255.255", "shared", False, True),
    ("192.0.2.1", "documentation", False, True),
    ("198.51.100.1", "documentation", False, True),
    ("203.0.113.9", "documentation", False, True),
    ("2001:db8::1", "documentation", False, True),
    ("3fff::1", "documentation", False, True),
    ("198.18.0.1", "benchmark", False, True),
    ("198.19.255.255", "benchmark", False, True),
    ("224.0.0.1", "multicast", False, True),
    ("239.255.255.255", "multicast", False, True),
    ("ff02::1", "multicast", False, True),
    ("255.255.255.255", "broadcast", False, True),
    ("4294967295", "broadcast", False, True),
    ("240.0.0.1", "reserved", False, True),
    ("192.0.0.8", "reserved", False, True),
    ("100::1", "reserved", False, True),
    ("5f00::1", "reserved", False, True),
    ("fec0::1", "reserved", False, True),
    ("192.88.99.1", "6to4", False, True),
    ("2002:7f00:1::1", "6to4", False, True),
    ("2002:808:808::1", "6to4", False, True),
    ("2001::1", "teredo", False, True),
    ("2001:0:5ef5:79fb::1", "teredo", False, True),
    ("64:ff9b::7f00:1", "nat64", False, True),
    ("64:ff9b:1::8.8.8.8", "nat64", False, True),
    ("::127.0.0.1", "v4-compatible", False, True),
    ("::8.8.8.8", "v4-compatible", False, True),
    ("169.254.0.1", "link-local", False, False),
    ("fe80::1", "link-local", False, False),
    ("febf::1", "link-local", False, False),
    ("169.254.169.254", "metadata", False, False),
    ("0xa9fea9fe", "metadata", False, False),
    ("2852039166", "metadata", False, False),
    ("169.254.170.2", "metadata", False, False),
    ("fd00:ec2::254", "metadata", False, False),
    ("fd20:ce::254", "metadata", False, False),
    ("168.63.129.16", "metadata", False, False),
    ("100.100.100.200", "metadata", False, False),
    ("192.0.0.192", "metadata", False, False),
    ("::ffff:169.254.169.254", "metadata", False, False),
    ("64:ff9b::a9fe:a9fe", "metadata", False, False),
    ("64:ff9b:1::a9fe:a9fe", "metadata", False, False),
    ("2002:a9fe:a9fe::1", "metadata", False, False),
    ("::169.254.169.254", "metadata", False, False),
    ("2001:0:1::5601:5601", "metadata", False, False),
]


def test_the_table_has_sixty_literals_and_more() -> None:
    assert len({address for address, *_ in RULES}) == len(RULES) >= 60


@pytest.mark.parametrize(("address", "rule", "private", "any_"), RULES)
def test_a_literal(address: str, rule: str, private: bool, any_: bool) -> None:
    public = judge(address, 80, PUBLIC)
    assert (public.allowed, public.rule) == (rule == "", rule)
    assert judge(address, 80, PRIVATE).allowed is private
    assert judge(address, 80, ANY).allowed is any_
    expected = "" if not rule else "targets: private, " if private else "targets: any, " if any_ else "targets_allow"
    assert public.key.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "fe80::1%eth0",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "0x1ffffffff",
        "4294967296",
        "09.1",
        "example",
        "[1.2.3.4]",
        ":::",
        "1." + "9" * 5000,
    ],
)
def test_what_is_no_address_is_no_verdict(text: str) -> None:
    with pytest.raises(ValueError):
        judge(text, 80, ANY)


@pytest.mark.parametrize(
    "port", [0, 22, 25, 465, 587, 3306, 4369, 5432, 5671, 5672, 6379, 9042, 11211, 15672, 25672, 27017]
)
def test_ports_of_mail_brokers_and_databases_are_denied_always(port: int) -> None:
    assert port in DENIED_PORTS
    for policy in (PUBLIC, PRIVATE, ANY, make_policy("any", allow=["8.8.8.0/24"])):
        verdict = judge("8.8.8.8", port, policy)
        assert (verdict.allowed, verdict.rule, verdict.key) == (False, "port", "targets_allow with the port")
    assert judge("8.8.8.8", port, make_policy("public", allow=[f"8.8.8.8:{port}"])).allowed
    assert not judge("8.8.8.8", port, make_policy("public", allow=["8.8.8.8:81"])).allowed


def allowed(policy: Policy, address: str, port: int = 80, host: str | None = None) -> bool:
    return judge(address, port, policy, host=host).allowed


def test_what_targets_allow_opens() -> None:
    policy = make_policy(
        "public", allow=["10.1.0.0/16", "10.2.2.2:8080", "[fd00::/64]:443", "::1", "*.corp.example", "One.Example"]
    )
    assert allowed(policy, "10.1.9.9") and allowed(policy, "::ffff:10.1.9.9") and not allowed(policy, "10.3.0.1")
    assert allowed(policy, "10.2.2.2", 8080) and not allowed(policy, "10.2.2.2", 8081)
    assert (
        allowed(policy, "fd00::9", 443)
        and not allowed(policy, "fd00::9", 444)
        and not allowed(policy, "fd00:0:0:1::", 443)
    )
    assert allowed(policy, "::1") and not allowed(policy, "127.0.0.1")
    for host, opened in (
        ("a.corp.example", True),
        ("A.B.CORP.example.", True),
        ("one.example", True),
        ("corp.example", False),
        ("evilcorp.example", False),
        ("a.one.example", False),
        (None, False),
    ):
        assert allowed(policy, "192.168.1.1", host=host) is opened, host


def test_metadata_and_link_local_open_only_to_an_entry_that_means_them() -> None:
    for wide in ("0.0.0.0/0", "169.0.0.0/8", "*.example", "::/0"):
        policy = make_policy("any", allow=[wide])
        assert not allowed(policy, "169.254.169.254", host="a.example"), wide
        assert not allowed(policy, "fe80::1", host="a.example"), wide
    lan = make_policy("public", allow=["169.254.0.0/16"])
    assert allowed(lan, "169.254.7.7") and not allowed(lan, "169.254.169.254")
    assert allowed(make_policy("public", allow=["169.254.169.254"]), "169.254.169.254")
    assert not allowed(make_policy("public", allow=["169.254.169.254:8080"]), "169.254.169.254")


def test_targets_deny_wins() -> None:
    policy = make_policy("any", allow=["10.0.0.1"], deny=["10.0.0.0/24", "*.bad.example", "8.8.8.8:8080"])
    assert judge("10.0.0.1", 80, policy).rule == "targets_deny"
    assert judge("1.1.1.1", 80, policy, host="x.bad.example").rule == "targets_deny"
    assert not allowed(policy, "8.8.8.8", 8080) and allowed(policy, "8.8.8.8", 80)


def test_own_listeners_are_denied_always() -> None:
    own = [("127.0.0.1", 8088), ("0.0.0.0", 9000), ("localhost", 9001)]
    policy = make_policy("any", own_listeners=own)
    assert judge("127.0.0.1", 8088, policy).rule == "own-listener"
    assert judge("::ffff:127.0.0.1", 8088, policy).rule == "own-listener"
    assert allowed(policy, "127.0.0.2", 8088) and allowed(policy, "127.0.0.1", 8089)
    assert not allowed(policy, "127.0.0.1", 9000) and not allowed(policy, "0.0.0.0", 9000)
    assert not allowed(policy, "127.0.0.1", 9001)
    assert allowed(policy, "10.0.0.9", 9000)
    assert not judge("10.0.0.9", 9000, policy, is_own=lambda address: str(address) == "10.0.0.9").allowed
    assert allowed(make_policy("private", own_listeners=own, allow=["127.0.0.1:8088"]), "127.0.0.1", 8088)
    assert not allowed(make_policy("private", own_listeners=own, allow=["127.0.0.1"]), "127.0.0.1", 8088)


def test_a_policy_is_narrowed_and_never_widened() -> None:
    assert make_policy("private").narrowed(Reach.ANY).reach is Reach.PRIVATE
    assert make_policy("any").narrowed(Reach.PUBLIC).reach is Reach.PUBLIC
    assert make_policy("public").narrowed(Reach.PRIVATE).reach is Reach.PUBLIC


def test_every_fault_of_a_policy_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        make_policy("lan", allow=["10.0.0.1/8", "a:b", "*", "ok.example"], deny=["", "10.0.0.1:70000", "fe80::1%eth0"])
    assert [fault.partition(": ")[0] for fault in raised.value.faults] == ["targets"] + ["targets_allow"] * 3 + [
        "targets_deny"
    ] * 3
