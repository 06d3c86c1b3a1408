"""`python -m taskqueue.cli.trial.worker FD`: a template and its worker in one process, for `trial`.

It runs as the group's user, has no credentials, and must never speak AMQP.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback

from taskqueue.config.settings import LoggingSettings, group_from_json
from taskqueue.host import kernel
from taskqueue.host.logs import setup_logging
from taskqueue.link import packets
from taskqueue.link.assignment import TRACE_LIMIT
from taskqueue.link.exits import FAILED, MEMORY
from taskqueue.protocol.properties import shorten
from taskqueue.worker import serve
from taskqueue.worker.execution import trace_of
from taskqueue.worker.loading import load_plugin


def main() -> int:
    """Import the plugin, report it, and serve on the order to. Gives the exit status."""
    kernel.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends `trial`, which ends us
    ours = packets.adopt(int(sys.argv[1]))
    packet = ours.receive(wait=True)
    assert packet is not None
    _, group, entry_value = packet.head
    settings = group_from_json(group)
    setup_logging(LoggingSettings("INFO", "stderr", "text"), f"taskqueue-worker[{settings.name}]", 2)
    serve.prepare(settings)
    try:
        loaded = load_plugin(settings.worker_type, entry_value)
    except BaseException as error:
        ours.send(["failed", shorten(trace_of(error), TRACE_LIMIT)], wait=True)
        return FAILED
    ours.send(["imported"], wait=True)
    ours.receive(wait=True)  # `["serve"]`
    if settings.max_memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (settings.max_memory_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return serve.serve(ours, lambda: loaded, settings)


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except MemoryError:
        code = MEMORY
    except EOFError:  # the link was closed before `["serve"]`: only the import was wanted
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for text in (sys.stdout, sys.stderr):
            text.flush()
        os._exit(code)  # not through sys.exit: a plugin's threads must not keep it
