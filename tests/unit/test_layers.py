"""Which wing may import which (design, section 9): read from the sources, never by importing them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "taskqueue"
LINE_LIMIT = 300

WINGS: dict[str, set[str]] = {
    # what every process stands on
    "": set(),
    "errors": set(),
    "foundation": {"errors"},
    "targets": {"errors"},
    "config": {"errors", "targets"},
    "link": {"errors", "foundation"},
    "status": {"errors", "foundation"},
    "host": {"errors", "foundation", "config"},
    # the AMQP contract, and who speaks it
    "workitem": {"errors", "foundation"},
    "protocol": {"errors", "workitem", "config"},
    "amqp": {"", "errors", "foundation", "config", "protocol"},
    # the plugin's side
    "plugins": {"workitem"},
    "worker": {"errors", "foundation", "config", "link", "host", "workitem", "protocol", "plugins"},
    "webhook": {"", "worker", "targets"},
    # a process each
    "dispatcher": {"errors", "foundation", "config", "host", "workitem", "protocol", "amqp"},
    "listener": {"errors", "foundation", "config", "host", "link", "protocol", "amqp"},
    "pool": {"", "errors", "foundation", "config", "host", "link", "status", "plugins"},
    # what people and programs use
    "client": {"errors", "config", "workitem", "protocol", "amqp"},
    "testing": {"errors", "config", "link", "workitem", "protocol", "plugins", "worker"},
    "operations": {"", "errors", "foundation", "config", "status", "workitem", "protocol", "amqp"},
    "http": {"", "errors", "foundation", "config", "targets", "protocol", "amqp"},
    "cli": {
        "", "errors", "foundation", "config", "link", "status", "host", "workitem", "protocol", "amqp", "plugins",
        "worker", "dispatcher", "pool", "client", "operations", "http",
    },
}  # fmt: skip
"""The wings of the package, and the modules at its top ("" is the package itself): what each may import.

A wing stands below the line that names it, so that no two can need each other. Inside a wing no circle is allowed."""

NAMED_BY_STRING = {
    "pool.helper": {"listener.__main__", "worker.template"},
    "cli.main": {"cli.commands"},
    "cli.trial.trial": {"cli.trial.worker"},
    "cli.commands.dev": {"cli"},
}
"""Programs that a module starts, or imports, by name in a string: it may name no others."""

LIBRARIES = {
    "pika": {"amqp"},
    "configobj": {"config.values"},
    "validate": {"config.values"},
    "daemon": {"host.daemon"},
    "setproctitle": {"host.title"},
    "asyncio": {"worker.coroutines", "testing", "http", "webhook", "cli.front"},
    "aiohttp": {"http"},
    "sqlite3": {"http"},
    "psycopg": {"http"},
    "pycurl": {"webhook"},
    "click": {"cli"},
    "rich": {"cli.terminal.screen"},
}
"""Which modules, or all modules of which wing, may import a library."""

EMPTY = (
    "config", "foundation", "host", "link", "listener", "pool", "dispatcher", "protocol", "status", "operations",
    "targets", "webhook", "http",
)  # fmt: skip
"""Wings whose `__init__` holds a docstring and nothing else: an idle worker's 1.8 MiB depend on it."""

NAMED_AFTER_WHAT_THEY_START = {"cli.dispatcher", "cli.trial.worker"}
"""Programs of `cli`. Its commands, too, may have the name of a wing: the module is named as the command is typed."""

UNTRUSTED = ("worker", "worker.serve", "worker.coroutines", "worker.template")
NEVER_UNTRUSTED = (
    "amqp",
    "+pika",
    "config.load",
    "+configobj",
    "host.spawn",
    "host.daemon",
    "listener.listener",
    "pool.pool",
)
NEVER_PRIVILEGED = ("amqp", "+pika", "worker", "listener.listener")
NEVER_AMQP = ("worker", "plugins")


def name_of(path: Path) -> str:
    """`amqp.wire` for taskqueue/amqp/wire.py, `amqp` for its __init__, "" for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def wing_of(module: str) -> str:
    """The line of `WINGS` that a module belongs to."""
    return module.partition(".")[0]


@cache
def imports(module: str) -> frozenset[str]:
    """What `module` imports, at once or later: our modules by their name here, libraries by their top package behind a
    plus."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(own(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(own(full if own(full) in MODULES else node.module))
    return frozenset(found)


def named(module: str) -> set[str]:
    """Our modules, or wings, that `module` names in a string, as one does to start a program."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("taskqueue."):
            name = own(node.value.rstrip("."))
            if name in MODULES:
                found.add(f"{name}.__main__" if f"{name}.__main__" in MODULES else name)
    return found


def own(name: str) -> str:
    """`amqp.wire` for `taskqueue.amqp.wire`, `+pika` for `pika.exceptions`."""
    top, _, rest = name.partition(".")
    return rest if top == "taskqueue" else f"+{top}"


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


@pytest.mark.parametrize("module", MODULES)
def test_a_wing_imports_only_what_its_line_says(module: str) -> None:
    wing = wing_of(module)
    assert wing in WINGS, f"{module} is in no wing of the table: say what it may import"
    for name in imports(module) & MODULES.keys():
        assert wing_of(name) in WINGS[wing] | {wing}, f"{module} imports {name}"


def test_no_circle_between_wings() -> None:
    below: set[str] = set()
    for wing, allowed in WINGS.items():
        assert allowed <= below, f"{wing} stands above {allowed - below}"
        below.add(wing)


def test_no_circle_inside_a_wing() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in imports(module) & MODULES.keys():
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_a_program_is_named_by_string_only_where_the_table_says(module: str) -> None:
    foreign = {name for name in named(module) if wing_of(name) != wing_of(module) or name in NAMED_BY_STRING.values()}
    assert foreign <= NAMED_BY_STRING.get(module, set()), f"{module} names {foreign}"


def test_every_line_of_the_tables_is_used() -> None:
    assert {wing_of(module) for module in MODULES} == WINGS.keys()
    assert {module: named(module) for module in NAMED_BY_STRING} == NAMED_BY_STRING
    for wing, allowed in WINGS.items():
        used = {
            wing_of(name) for module in MODULES if wing_of(module) == wing for name in imports(module) & MODULES.keys()
        }
        assert used - {wing} == allowed, f"{wing} may import {allowed} and imports {used}"


@pytest.mark.parametrize("module", MODULES)
def test_a_library_belongs_to_one_place(module: str) -> None:
    for library, allowed in LIBRARIES.items():
        assert f"+{library}" not in imports(module) or {module, wing_of(module)} & allowed, (
            f"{module} imports {library}"
        )


def never(modules: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    """Check that none of `modules` loads one of `forbidden`, also by way of others."""
    for module in modules:
        for name in forbidden:
            assert name == "" or name in MODULES or name.startswith("+"), f"there is no {name}"
            assert name not in reach(module), " -> ".join(reach(module)[name])


def test_what_runs_as_root_never_loads_amqp_or_a_plugins_side() -> None:
    never(("pool.pool", "host.spawn"), NEVER_PRIVILEGED)


def test_what_runs_plugins_never_loads_amqp_or_config() -> None:
    never(UNTRUSTED, NEVER_UNTRUSTED)


def test_dispatcher_and_listener_never_load_a_plugins_side() -> None:
    never(("dispatcher.service", "listener.__main__"), NEVER_AMQP)


def test_a_sync_worker_does_without_asyncio() -> None:
    found = reach("worker.template")
    assert [path[-2] for name, path in found.items() if name == "+asyncio"] == ["worker.coroutines"]


@pytest.mark.parametrize("wing", EMPTY)
def test_a_shared_wing_has_an_empty_init(wing: str) -> None:
    assert len(ast.parse(MODULES[wing].read_text()).body) == 1


@pytest.mark.parametrize("module", MODULES)
def test_a_file_holds_one_role(module: str) -> None:
    assert module.rpartition(".")[2] not in {"utils", "util", "helpers", "common", "misc"}
    text = MODULES[module].read_text()
    lines = text.count("\n")
    assert lines <= LINE_LIMIT, f"{lines} lines"
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"


def test_no_two_modules_in_sight_of_each_other_have_one_name() -> None:
    """In one wing each name is there once, and none is another wing's; a directory's main module has its name."""
    seen: dict[tuple[str, str], str] = {}
    for module in MODULES:
        directory, _, name = module.rpartition(".")
        if directory == "" or name == "__main__" or name == directory.rpartition(".")[2]:
            continue
        other = seen.setdefault((wing_of(module), name), module)
        assert other == module, f"{module} and {other}"
        if directory != "cli.commands" and module not in NAMED_AFTER_WHAT_THEY_START:
            assert name not in WINGS, f"{module} and the wing {name}"
