"""The one table of sections and keys: the kinds of section, and the keys of each with limits and default.

Parsing, limits, defaults, messages and `taskqueue config` come from this table, and tests hold `etc/config.ini` and
README.rst to it. A line of it, `heartbeat = seconds(0, 65535, default="60")`, names a key, the function of
`config.values` that checks its value, that function's limits, and the default as it would be written in the file.

A further kind of section is a further entry of `CONFIGSPEC` here, with a word in `kind_of` where there can be several
sections of that kind; `config.settings` has the dataclass that its values end in. This module must never read a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from taskqueue.config import http_values, values
from taskqueue.config.http_keys import HTTP, HTTP_SPECS, http_kind_of

GROUP = "group"
"""The kind of [DEFAULT], and of every section that is a worker type's or an instance's."""

# RabbitMQ keeps a message's or a queue's TTL in 32 bits of milliseconds, 49.7 days, which bounds results_ttl and both
# delays: https://www.rabbitmq.com/docs/ttl
CONFIGSPEC = {
    "amqp": """
        host = hosts(default="localhost")
        port = integer(1, 65535, default=None)
        user = text(1, 255, default="guest")
        passwd = text(0, 4096, default="guest")
        vhost = text(1, 255, default="/")
        heartbeat = seconds(0, 65535, default="60")
        ssl = boolean(default="no")
        ca_file = text(1, 4096, default=None)
        cert_file = text(1, 4096, default=None)
        key_file = text(1, 4096, default=None)
        queue_type = choice("quorum", "classic", default="quorum")
        ingress_queue_type = choice("classic", "quorum", default="classic")
        """,
    "dispatcher": """
        prefetch = integer(1, 65535, default="500")
        max_body = size(1, 512M, default="16 MiB")
        """,
    "workerpool": """
        plugins = plugins(default="*")
        stop_timeout = duration(0, 1d, default="30s")
        results_ttl = duration(1s, 49d, default="7d")
        """,
    "logging": """
        level = choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", default="INFO")
        target = choice("syslog", "journal", "stderr", default=None)
        format = choice("text", "json", default="text")
        """,
    GROUP: """
        workers = workers(0, 10000, default="1")
        user = unix_user(default=None)
        results_routing_key = routing_key(default="results")
        report_results = boolean(default="yes")
        max_retries = integer(0, 1000000, default="0")
        retry_delay = duration(0, 49d, default="1s")
        retry_max_delay = duration(0, 49d, default="1h")
        max_crashes = integer(1, 1000, default="3")
        soft_time_limit = duration(10ms, 365d, default=None)
        time_limit = duration(10ms, 365d, default=None)
        max_tasks = integer(1, 1000000000, default=None)
        max_memory = size(1M, 16384G, default=None)
        prefetch = prefetch(1, 65535, default="auto")
        concurrency = integer(1, 10000, default="1")
        preload = boolean(default="yes")
        """,
    **HTTP_SPECS,
}
"""The keys of each kind of section, in the order in which people see them, as ConfigObj's validator reads them:
https://configobj.readthedocs.io/en/latest/configobj.html#configspec"""

RESERVED = ("amqp", "dispatcher", "workerpool", "logging", HTTP)
"""The sections of taskqueue's own that there is one of; no worker type can have a section of such a name."""


def checks(exists: Callable[[str], bool] = values.user_exists) -> values.Checks:
    """All kinds of value by their name in the table; `exists` says which unix users this host has."""
    return {**values.checks(exists), **{kind.__name__: kind for kind in http_values.KINDS}}


KEYS = {kind: dict(re.findall(r"^\s*(\w+) = (\w+)\(", spec, re.MULTILINE)) for kind, spec in CONFIGSPEC.items()}
"""The keys of each kind of section, in the table's order, each with the kind of its value: `heartbeat`: `seconds`."""

DEFAULTS = {kind: values.validate({}, spec, checks())[0] for kind, spec in CONFIGSPEC.items()}
"""The default of each key, converted: seconds, bytes, True and False; None for no value."""


def kind_of(section: str) -> str:
    """The kind of the section of that name, one of `CONFIGSPEC`."""
    if section in RESERVED:
        return section
    return http_kind_of(section) or GROUP
