"""Client of RabbitMQ's management plugin, for the figures that AMQP cannot give: rates, unacked, nodes, alarms.

The plugin may be absent, which is never an error, and it is never asked to change anything. A management API on the
same host may be another broker's: one whose cluster has another name than ours counts as absent.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from taskqueue.config.settings import AmqpSettings

URL_VARIABLE = "TASKQUEUE_MANAGEMENT_URL"
"""`http[s]://[user:password@]host:port` of the management API, where it is not at the broker's host, port 15672."""

_PORT = 15672
_TIMEOUT_S = 3.0
"""Seconds for one answer; an API that needs more counts as absent."""
_ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer that are read; a longer one is no JSON, and counts as absent."""


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """A queue as the plugin has it. Rates are messages a second, None where it keeps none."""

    name: str
    ready: int
    unacked: int
    consumers: int
    publish_rate: float | None
    deliver_rate: float | None
    kind: str
    """`quorum`, `classic`, `stream`."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, and its alarms."""

    name: str
    running: bool
    memory_alarm: bool
    disk_alarm: bool
    partitions: tuple[str, ...]


class Management:
    """The management API of the broker that we are connected to; `cluster_name`: as the AMQP connection has it.

    Every method gives None where the plugin is not enabled, not reachable, not ours, or does not let us.
    """

    def __init__(
        self, amqp: AmqpSettings, host: str, cluster_name: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._vhost = quote(amqp.vhost, safe="")
        self._url, user, passwd = _where(amqp, host.rpartition(":")[0], environ.get(URL_VARIABLE, "").strip())
        self._login = base64.b64encode(f"{user}:{passwd}".encode()).decode()
        context = ssl.create_default_context(cafile=amqp.ca_file) if self._url.startswith("https:") else None
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        self._cluster_name = cluster_name
        self._ours: bool | None = None

    def overview(self) -> Mapping[str, Any] | None:
        """`GET /api/overview`, as it is."""
        found = self._get("overview")
        return found if isinstance(found, dict) and found.get("cluster_name") == self._cluster_name else None

    def queues(self) -> dict[str, QueueFigures] | None:
        """All queues of our virtual host, by name."""
        found = self._get(f"queues/{self._vhost}") if self._is_ours() else None
        return {each["name"]: _figures(each) for each in found} if isinstance(found, list) else None

    def nodes(self) -> list[Node] | None:
        """All nodes of the cluster."""
        found = self._get("nodes") if self._is_ours() else None
        return [_node(each) for each in found] if isinstance(found, list) else None

    def connections(self) -> list[str] | None:
        """The names that the clients of our virtual host have given to their connections."""
        found = self._get(f"vhosts/{self._vhost}/connections") if self._is_ours() else None
        if not isinstance(found, list):
            return None
        return [str(each.get("client_properties", {}).get("connection_name", "")) for each in found]

    def clock_ahead_s(self) -> float | None:
        """How far the broker's clock is ahead of this host's: about, HTTP gives whole seconds."""
        if not self._is_ours():
            return None
        before = time.time()
        try:
            with self._opener.open(self._request("overview"), timeout=_TIMEOUT_S) as answer:
                remote = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
        except (URLError, OSError, ValueError, TypeError):
            return None
        return remote - (before + time.time()) / 2

    def _is_ours(self) -> bool:
        if self._ours is None:
            self._ours = self.overview() is not None
        return self._ours

    def _get(self, path: str) -> Any:
        try:
            with self._opener.open(self._request(path), timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read(_ANSWER_LIMIT))
        except (URLError, OSError, ValueError):
            return None

    def _request(self, path: str) -> Request:
        return Request(f"{self._url}/api/{path}", headers={"Authorization": f"Basic {self._login}"})


def _where(amqp: AmqpSettings, host: str, url: str) -> tuple[str, str, str]:
    """(URL without login, user, password)."""
    if not url:
        return f"http://{f'[{host}]' if ':' in host else host}:{_PORT}", amqp.user, amqp.passwd
    parts = urlsplit(url if "//" in url else f"http://{url}")
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return bare, parts.username or amqp.user, parts.password or amqp.passwd


def _figures(queue: Mapping[str, Any]) -> QueueFigures:
    stats = queue.get("message_stats", {})
    arguments = queue.get("arguments", {})
    return QueueFigures(
        name=queue["name"],
        ready=queue.get("messages_ready", 0),
        unacked=queue.get("messages_unacknowledged", 0),
        consumers=queue.get("consumers", 0),
        publish_rate=stats.get("publish_details", {}).get("rate"),
        deliver_rate=stats.get("deliver_get_details", {}).get("rate"),
        kind=queue.get("type") or arguments.get("x-queue-type", "classic"),
        arguments=arguments,
    )


def _node(node: Mapping[str, Any]) -> Node:
    return Node(
        name=node["name"],
        running=bool(node.get("running")),
        memory_alarm=bool(node.get("mem_alarm")),
        disk_alarm=bool(node.get("disk_free_alarm")),
        partitions=tuple(node.get("partitions", ())),
    )
