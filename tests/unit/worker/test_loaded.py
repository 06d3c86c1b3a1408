"""What a template has loaded before it imports a plugin: every module is memory of all its workers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OURS = {
    "taskqueue",
    "taskqueue.config", "taskqueue.config.settings",
    "taskqueue.errors",
    "taskqueue.foundation", "taskqueue.foundation.backoff", "taskqueue.foundation.json_coders",
    "taskqueue.foundation.loop",
    "taskqueue.host", "taskqueue.host.cgroup", "taskqueue.host.journal", "taskqueue.host.kernel", "taskqueue.host.logs",
    "taskqueue.host.output", "taskqueue.host.title",
    "taskqueue.link", "taskqueue.link.assignment", "taskqueue.link.exits", "taskqueue.link.orders",
    "taskqueue.link.packets",
    "taskqueue.plugins",
    "taskqueue.protocol", "taskqueue.protocol.properties", "taskqueue.protocol.results",
    "taskqueue.worker", "taskqueue.worker.api", "taskqueue.worker.birth", "taskqueue.worker.execution",
    "taskqueue.worker.line", "taskqueue.worker.loading", "taskqueue.worker.processes", "taskqueue.worker.serve",
    "taskqueue.worker.surroundings", "taskqueue.worker.template",
    "taskqueue.workitem",
}  # fmt: skip
"""Our modules in a template. One more costs each host some memory: add it here on purpose only."""

NEVER = {
    "asyncio",
    "click",
    "configobj",
    "daemon",
    "http",
    "pika",
    "rich",
    "ssl",
    "urllib.request",
    "validate",
}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that a new interpreter has when it has imported the template, and had not before."""
    code = """if True:
        import sys
        before = set(sys.modules)
        import taskqueue.worker.template
        import json
        print(json.dumps(sorted(set(sys.modules) - before)))"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_our_modules_in_a_template(loaded: set[str]) -> None:
    assert {name for name in loaded if name.partition(".")[0] == "taskqueue"} == OURS


def test_what_a_template_must_never_load(loaded: set[str]) -> None:
    assert not loaded & NEVER
