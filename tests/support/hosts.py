"""Debian hosts for the tests of the packages: clean roots, entered as containers, with systemd or without any init.

Each has process, mount and network namespaces of its own, and dies with the session that has made it. Root only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from processes import parents
from waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ROOT / ".run" / "roots"
_TOOL = ROOT / "tests" / "support" / "root"
_ENVIRONMENT = ("HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
_NAMESPACE = "taskqueue-packages-"
"""Of a network of hosts; the number behind it is the pid of the session that has made it."""
_REAPER = "trap : TERM; while :; do sleep 3600 & wait; done"
"""Process 1 where there is no init: it only reaps."""


class CommandFailed(AssertionError):
    """A command on a host failed; the message has all that it printed."""


def base(release: str) -> Path:
    """The clean root of a Debian release, made where it is missing."""
    made = subprocess.run([_TOOL, "base", release], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


def in_root(root: Path, command: str, *, deadline_s: float = 600) -> str:
    """Run a shell command in a root that is no host yet, with the network of this machine; gives its output."""
    ran = subprocess.run(
        [_TOOL, "enter", root, "build", "env", "DEBIAN_FRONTEND=noninteractive", "bash", "-euc", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=deadline_s,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        raise CommandFailed(f"status {ran.returncode}: {command}\n{ran.stdout[-8000:]}")
    return ran.stdout


def prepared(release: str, purpose: str, command: str, *files: str) -> Path:
    """A root kept for one purpose: the clean one after `command`, run in /srv beside these files of the tree.

    It is made anew where the command or a file is another one now.
    """
    root = ROOTS / f"{release}-{purpose}"
    note = root / "prepared-by"
    by = "\n".join([command, *((ROOT / file).read_text() for file in files)])
    if note.exists() and note.read_text() == by:
        return root
    scratch = root.with_name(f"{root.name}.new")
    for old in (root, scratch):
        remove(old)
    subprocess.run([_TOOL, "copy", base(release), scratch, "build"], check=True)
    for file in files:
        (scratch / "srv" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, scratch / "srv" / file)
    in_root(scratch, f"cd /srv; {command}")
    (scratch / "prepared-by").write_text(by)
    scratch.rename(root)
    return root


def remove(root: Path) -> None:
    """Remove a root; nothing is mounted below it once its host has ended."""
    if root.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


class Host:
    """A host called `name` in a copy of `template`, which `start` brings up."""

    def __init__(self, template: Path, directory: Path, name: str) -> None:
        self.name = name
        self.root = directory / name
        self._process: subprocess.Popen[bytes] | None = None
        self.init = 0
        """Process 1 of the host, as this machine counts."""
        subprocess.run([_TOOL, "copy", template, self.root, name], check=True)

    # -- up and down

    def start(self) -> None:
        """Bring it up without any init: what runs is what is started by hand."""
        self._start([_TOOL, "enter", "--net", self.root, self.name, "bash", "-c", _REAPER])
        self.init = wait_for(self._reaper, 30, f"{self.name} is up")

    def boot(self) -> None:
        """Boot its systemd; returns once that has finished."""
        command: list[str | Path]
        command = ["systemd-nspawn", "-q", "-D", self.root, f"--machine={self.name}", "--register=no", "--keep-unit"]
        self._start(["setpriv", "--pdeathsig", "TERM", *command, "--private-network", "--resolv-conf=off", "--boot"])
        self.init = wait_for(self._leader, 60, f"{self.name} has an init")
        wait_for(
            lambda: self.run("systemctl is-system-running", check=False).strip() in {"running", "degraded"},
            120, f"{self.name} has booted", poll_s=0.2,
            otherwise=lambda: self.run("systemctl list-jobs; systemctl --failed", check=False),
        )  # fmt: skip

    def _start(self, command: list[str | Path]) -> None:
        log = self.root.with_name(f"{self.name}.log").open("ab")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )  # fmt: skip
        log.close()

    def _children(self) -> list[int]:
        assert self._process is not None and self._process.poll() is None, f"{self.name} ended"
        return [pid for pid, parent in parents().items() if parent == self._process.pid]

    def _reaper(self) -> int:
        return next((pid for pid in self._children() if _root_of(pid) == self.root and _word(pid, 0) == "bash"), 0)

    def _leader(self) -> int:
        return next((pid for pid in self._children() if Path(_word(pid, 0)).name in {"systemd", "init"}), 0)

    def kill(self) -> None:
        """As if its power had failed: all its processes at once."""
        os.kill(self.init, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Bring it down; in good order, where it has a systemd."""
        if self._process is None or self._process.poll() is not None:
            return
        if _word(self.init, 0) == "bash":
            self.kill()
        else:
            self._process.terminate()  # nspawn asks for a poweroff
            self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.kill(self.init, signal.SIGKILL)
            self._process.wait(10)

    def remove(self) -> None:
        """Bring it down and remove it."""
        with contextlib.suppress(ProcessLookupError):
            self.stop()
        remove(self.root)

    # -- commands

    def run(self, command: str, *, check: bool = True, deadline_s: float = 240) -> str:
        """Run a shell command as root; gives its output. Raises `CommandFailed`."""
        status, output = self.status(command, deadline_s=deadline_s)
        if check and status:
            raise CommandFailed(f"{self.name}: status {status}: {command}\n{output[-8000:]}")
        return output

    def status(self, command: str, *, deadline_s: float = 240) -> tuple[int, str]:
        """Run a shell command as root; gives exit status and output."""
        ran = subprocess.run(
            [*self._enter(), "bash", "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=deadline_s,
            errors="replace", check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start a shell command that runs beside others."""
        return subprocess.Popen(
            [*self._enter(), "bash", "-c", command], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    def _enter(self) -> list[str]:
        where = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return ["nsenter", "--target", str(self.init), *where, "env", "-i", *_ENVIRONMENT]

    def copy_in(self, *files: Path, to: str = "/root") -> None:
        """Copy files into the host."""
        for file in files:
            shutil.copy(file, self.root / to.lstrip("/"))

    def wait_for(self, command: str, deadline_s: float = 60, *, otherwise: str = "true") -> str:
        """What `command` prints, once it succeeds; `otherwise` is run where it does not, for the message."""
        last = ""

        def succeeds() -> bool:
            nonlocal last
            status, last = self.status(command)
            return status == 0

        wait_for(succeeds, deadline_s, f"{self.name}: {command}", poll_s=0.2,
                 otherwise=lambda: f"{last}\n{self.run(otherwise, check=False)}")  # fmt: skip
        return last


class Switch:
    """A network of hosts, in a namespace of its own: nothing of this machine is on it."""

    def __init__(self) -> None:
        listed = subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
        for old in re.findall(rf"^{_NAMESPACE}(\d+)\b", listed, re.MULTILINE):
            if not Path("/proc", old).exists():  # of a session that was killed
                subprocess.run(["ip", "netns", "delete", f"{_NAMESPACE}{old}"], check=True)
        self._namespace = f"{_NAMESPACE}{os.getpid()}"
        self._addresses: dict[Host, str] = {}
        subprocess.run(["ip", "netns", "add", self._namespace], check=True)
        self._ip("link add bridge type bridge")
        self._ip("link set bridge up")

    def _ip(self, command: str) -> None:
        subprocess.run(["ip", "-n", self._namespace, *command.split()], check=True)

    def join(self, host: Host) -> None:
        """Connect a host that is up; all hosts of the network know its name."""
        number = len(self._addresses) + 1
        address = self._addresses[host] = f"10.77.0.{number}"
        self._ip(f"link add port{number} type veth peer name eth0 netns {host.init}")
        self._ip(f"link set port{number} master bridge up")
        for command in (f"address add {address}/24 dev eth0", "link set eth0 up"):
            subprocess.run(["nsenter", "--net", "--target", str(host.init), "ip", *command.split()], check=True)
        names = "".join(f"{each} {other.name}\\n" for other, each in self._addresses.items())
        for other in self._addresses:
            other.run(f"printf '127.0.0.1 localhost\\n{names}' >/etc/hosts")

    def unplug(self, host: Host) -> None:
        """Cut its cable: no packet says so to the other end."""
        self._ip(f"link set port{self._addresses[host].rpartition('.')[2]} down")

    def remove(self) -> None:
        """Take it away."""
        subprocess.run(["ip", "netns", "delete", self._namespace], check=True)


def _root_of(pid: int) -> Path | None:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/root").readlink()
    return None


def _word(pid: int, number: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[number].decode()
    return ""
