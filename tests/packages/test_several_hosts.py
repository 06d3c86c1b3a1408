"""Dispatcher and workerpool on two hosts, the broker on a third: one of the two dies, and work goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hosts import Host, Switch
from packages import Packages

CONFIG = """\
[amqp]
host: broker
user: taskqueue
passwd: pw
vhost: taskqueue
heartbeat: 5s
"""
NUMBERS = range(2, 202)
URL = "--url=amqp://taskqueue:pw@localhost/taskqueue"


@pytest.fixture
def switch(packages: Packages) -> Iterator[Switch]:
    """A network."""
    made = Switch(f"taskqueue-{packages.release}")
    yield made
    made.remove()


def test_one_of_two_hosts_dies(
    packages: Packages, template: Path, make_host: Callable[..., Host], switch: Switch
) -> None:
    names = ("broker", "one", "two")
    hosts = {name: make_host(template, name) for name in names}
    for host in hosts.values():
        host.start()
        switch.join(host)
    broker, one, two = hosts.values()
    broker.run("apt-get install --yes --no-install-recommends rabbitmq-server amqp-tools")
    broker.run("rabbitmqctl await_startup || { /etc/init.d/rabbitmq-server start && rabbitmqctl await_startup; }")
    broker.run("rabbitmqctl add_user taskqueue pw && rabbitmqctl add_vhost taskqueue")
    broker.run("rabbitmqctl set_permissions -p taskqueue taskqueue '.*' '.*' '.*'")
    for host in (one, two):
        host.run("mkdir -p /etc/taskqueue/conf.d")
        (host.root / "etc" / "taskqueue" / "conf.d" / "broker.ini").write_text(CONFIG)
        (host.root / "etc" / "taskqueue" / "conf.d" / "slow.ini").write_text("[primes]\nworkers: 1\n")
        plugin = f"/root/{packages.plugin.name}"
        host.run(f"apt-get install --yes --no-install-recommends {packages.installed} {plugin}")
    consumers = "rabbitmqctl -q list_queues -p taskqueue name consumers | grep -P '^{}\t2$'"
    broker.wait_for(consumers.format("taskqueue"), otherwise="rabbitmqctl list_queues -p taskqueue name consumers")
    broker.wait_for(consumers.format("worker_primes"))
    client = broker.begin(
        f"for number in $(seq {NUMBERS[0]} {NUMBERS[-1]}); do"
        f' amqp-publish {URL} --routing-key=taskqueue --body="primes 99999999$number" || exit; done'
    )
    broker.wait_for(f"amqp-get {URL} --queue=results")  # it is on its way: one result is taken already
    switch.unplug(one)
    one.kill()
    assert client.wait(120) == 0
    results = broker.run(f"timeout 150 amqp-consume {URL} --queue=results --count={len(NUMBERS) - 1} cat")
    numbers = {int(found) for found in re.findall(r'"number": 99999999(\d+)', results)}
    if len(numbers) < len(NUMBERS) - 1:  # some were run twice, which is allowed: their results came beside others'
        results += broker.run(f"timeout 60 amqp-consume {URL} --queue=results cat || true")
        numbers = {int(found) for found in re.findall(r'"number": 99999999(\d+)', results)}
    assert len(set(NUMBERS) - numbers) <= 1, "all but the one that was taken before"
