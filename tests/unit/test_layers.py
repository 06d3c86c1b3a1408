"""Who may import whom (design, section 9): read from the sources, never by importing them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "taskqueue"
LINE_LIMIT = 400

TIERS = (
    {
        "taskqueue",
        "errors",
        "dispatcher",
        "pool",
        "listener",
        "worker",
        "status",
        "protocol",
        "config",
        "link",
        "host",
        "foundation",
    },
    {
        "host.kernel",
        "host.cgroup",
        "host.title",
        "config.settings",
        "link.assignment",
        "foundation.loop",
        "config.inifile",
        "host.journal",
        "foundation.jsontext",
    },
    {
        "config.sections",
        "foundation.lifecycle",
        "foundation.backoff",
        "workitem",
        "config.kinds",
        "listener.prefetch",
        "link.packets",
        "host.output",
        "protocol.queues",
        "host.logs",
        "host.spawn",
        "status.server",
        "worker.api",
    },
    {"protocol.properties", "plugins", "config.rules", "host.daemon"},
    {"config.load"},
    {"protocol.dead_letters"},
    {"amqp.wire", "worker.execution", "pool.generation"},
    {"amqp.frames"},
    {"amqp.connection", "worker.serve", "pool.group"},
    {"amqp.declarer", "amqp.publisher", "amqp.inspector", "worker.coroutines", "worker.template"},
    {"amqp.consumer", "amqp.browser"},
    {"amqp"},
    {"listener.run", "amqp.session"},
    {"listener.workers", "listener.settler", "listener.leases"},
    {"listener.attempts", "listener.time_limit", "listener.intake"},
    {"dispatcher.dispatcher", "listener.listener", "pool.pool", "client", "testing"},
    {
        "cli.daemon_options",
        "cli.terminal.show",
        "cli.terminal.interrupts",
        "status.document",
        "operations.management",
        "cli.arguments.parameters",
        "cli.trial.private_broker",
    },
    {"operations.reading", "cli.arguments.lines", "cli.terminal.values", "cli.arguments.bodies", "cli.trial.trial"},
    {"operations.broker"},
    {"cli.operator", "cli.arguments.editing"},
    {
        "cli.arguments.selection",
        "operations.overview",
        "cli.arguments.groups",
        "cli.terminal.findings",
        "cli.trial.site",
    },
    {"cli.checks.on_host"},
    {"cli.checks.on_broker"},
)
"""A module imports only what stands in a line above its own; programs and commands in `cli` may import anything, but
nobody imports them."""

DEFERRED = {("worker.serve", "worker.coroutines")}
"""Imports inside a function that reach up: asyncio is only for those workers that use it."""

LIBRARIES = {
    "pika": {
        "amqp.wire",
        "amqp.frames",
        "amqp.connection",
        "amqp.declarer",
        "amqp.publisher",
        "amqp.inspector",
        "amqp.consumer",
        "amqp.browser",
    },
    "configobj": {"config.inifile"},
    "validate": {"config.inifile"},
    "host.daemon": {"host.daemon"},
    "lockfile": {"host.daemon"},
    "setproctitle": {"host.title"},
    "asyncio": {"worker.coroutines", "testing"},
    "click": {"cli"},
    "rich": {"cli.terminal.show"},
}
"""Which modules, or all in a package, may import a library that is their business."""

PRIVILEGED = ("pool.pool", "pool.group", "pool.generation", "host.spawn")
NEVER_PRIVILEGED = (
    "amqp",
    "+pika",
    "worker.api",
    "worker.execution",
    "worker.serve",
    "worker.coroutines",
    "worker.template",
    "listener.listener",
)
UNTRUSTED = ("worker.api", "worker.execution", "worker.serve", "worker.coroutines", "worker.template")
NEVER_UNTRUSTED = (
    "amqp",
    "+pika",
    "config.load",
    "+configobj",
    "config.inifile",
    "listener.listener",
    "host.spawn",
    "pool.pool",
)


def name_of(path: Path) -> str:
    """`amqp.wire` for taskqueue/amqp/wire.py, `amqp` for its __init__, `taskqueue` for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "taskqueue"


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str, *, deferred: bool = True) -> frozenset[str]:
    """What `module` imports: our modules by their name here, libraries by their top package behind a plus."""
    tree = ast.parse(MODULES[module].read_text())
    nodes = ast.walk(tree) if deferred else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(own(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(own(full if own(full) in MODULES else node.module))
    return frozenset(found)


def own(name: str) -> str:
    """`amqp.wire` for `taskqueue.amqp.wire`, `+pika` for `pika.exceptions`."""
    top, _, rest = name.partition(".")
    return (rest or "taskqueue") if top == "taskqueue" else f"+{top}"


@cache
def reach(module: str) -> dict[str, tuple[str, ...]]:
    """Everything that is loaded with `module`, at once or later, and the path to it."""
    found: dict[str, tuple[str, ...]] = {module: (module,)}
    left = [module]
    while left:
        at = left.pop()
        for name in imports(at) if at in MODULES else ():
            if name not in found:
                found[name] = (*found[at], name)
                left.append(name)
    return found


def tier(module: str) -> int | None:
    """The line of `TIERS` that `module` stands in."""
    return next((number for number, tier in enumerate(TIERS) if module in tier), None)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_below(module: str) -> None:
    own_tier = tier(module)
    if own_tier is None and (module == "cli" or module.startswith("cli.")):
        return
    assert own_tier is not None, f"{module} has no place in TIERS: say what it may import"
    for name in imports(module) & MODULES.keys():
        below = tier(name)
        assert (below is not None and below < own_tier) or (module, name) in DEFERRED, f"{module} reaches up to {name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_library_belongs_to_one_module(module: str) -> None:
    for library, allowed in LIBRARIES.items():
        assert f"+{library}" not in imports(module) or {module, module.partition(".")[0]} & allowed, (
            f"{module} imports {library}"
        )


@pytest.mark.parametrize("module", PRIVILEGED)
def test_what_runs_as_root_never_loads_amqp_or_a_plugins_side(module: str) -> None:
    for name in NEVER_PRIVILEGED:
        assert name not in reach(module), " -> ".join(reach(module)[name])


@pytest.mark.parametrize("module", UNTRUSTED)
def test_what_runs_plugins_never_loads_amqp_or_config(module: str) -> None:
    for name in NEVER_UNTRUSTED:
        assert name not in reach(module), " -> ".join(reach(module)[name])


def test_dispatcher_and_listener_never_load_a_plugins_side() -> None:
    for module in ("dispatcher.dispatcher", "listener.listener"):
        for name in (
            "worker.api",
            "worker.execution",
            "worker.serve",
            "worker.coroutines",
            "worker.template",
            "plugins",
        ):
            assert name not in reach(module), " -> ".join(reach(module)[name])


def test_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in imports(module, deferred=False) & MODULES.keys():
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_every_module_of_the_table_exists() -> None:
    planned = set().union(*TIERS)
    assert planned <= MODULES.keys(), planned - MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_a_file_holds_one_role(module: str) -> None:
    assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "common", "misc"}
    text = MODULES[module].read_text()
    lines = text.count("\n")
    assert lines <= LINE_LIMIT, f"{lines} lines"
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
