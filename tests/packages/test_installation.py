"""The commands of docs/installation.rst, as they are written there."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from hosts import ROOT, Host
from packages import Packages

TITLE = re.compile(r"^(.+)\n-+\n", re.MULTILINE)
BLOCK = re.compile(r"^\.\. code-block:: sh\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def sections() -> dict[str, list[str]]:
    """The commands of each section, block by block."""
    _, *parts = TITLE.split((ROOT / "docs" / "installation.rst").read_text())
    titles, texts = parts[::2], parts[1::2]
    return {
        title: [textwrap.dedent(block) for block in BLOCK.findall(text)]
        for title, text in zip(titles, texts, strict=True)
    }


def test_the_commands_of_the_manual(packages: Packages, systemd_template: Path, make_host: Callable[..., Host]) -> None:
    found = sections()
    assert [title for title in found if found[title]] == ["One host", "Users and rights", "TLS"]
    host = make_host(systemd_template, f"manual-{packages.release}")
    host.boot()
    host.run("mkdir /root/packages && echo '127.0.0.1 broker.example' >>/etc/hosts")
    host.copy_in(*packages.dist, packages.plugin, to="/root/packages")

    def follow(block: str) -> str:
        return host.run(f"set -e\ncd /root/packages\n{block}", deadline_s=300)

    def wait_connected(ssl: str) -> None:
        host.wait_for(
            f"test $(rabbitmqctl -q list_connections --no-table-headers user ssl | grep -c 'taskqueue.{ssl}') -ge 4",
            otherwise="rabbitmqctl list_connections user ssl; journalctl -q -n 15 _UID=$(id -u taskqueue);"
            " tail -n 25 /var/log/rabbitmq/*.log",
        )

    install, plugin = found["One host"]
    follow(install)
    assert '"factors": [2, 2, 2, 3, 3, 5]' in follow(plugin)
    rights, broker = found["Users and rights"]
    follow(rights)
    assert '"factors": [2, 2, 2, 3, 3, 5]' in follow(broker)
    # what goes wrong, and what waits, needs no more rights
    wait_connected("false")
    url = "--url=amqp://client:pw-of-clients@localhost/taskqueue"
    host.run(f"amqp-publish {url} --routing-key=taskqueue --body=' '")
    host.run(f"amqp-publish {url} --routing-key=taskqueue --body='newtype x'")
    client = (
        "from taskqueue.client import Client\n"
        "with Client('amqp://client:pw-of-clients@localhost/taskqueue') as client:\n"
        "    print(client.wait(client.submit('primes', '6', delay_s=0.2), timeout_s=60).value['factors'])\n"
    )
    assert host.run(f'python3 -c "{client}"').strip() == "[2, 3]"
    host.wait_for("rabbitmqctl -q list_queues -p taskqueue name messages | grep -P 'taskqueue_dead\t1'")
    host.wait_for("rabbitmqctl -q list_queues -p taskqueue name messages | grep -P 'worker_newtype\t1'")
    for block in found["TLS"][:2]:
        follow(block)
    wait_connected("true")
    assert "CN=taskqueue" in follow(found["TLS"][2])
    host.run(f"amqp-publish {url} --routing-key=taskqueue --body='primes 10'")
    assert '"factors": [2, 5]' in host.wait_for(f"amqp-get {url} --queue=results")
    assert "ACCESS_REFUSED" not in host.run("journalctl -q; cat /var/log/rabbitmq/*.log")
    assert "refused" not in host.run("cat /var/log/rabbitmq/*.log | grep -i 'access to' || true")
