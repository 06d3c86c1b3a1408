"""Taskqueue as installed, where every unix user can read it, and plugins installed beside it.

The virtual environment that runs the tests may be out of other users' reach (a checkout under /root): workers run as
others, so a copy is made under /var/tmp. Each test has an environment of its own on top of it, of a few files, in
which its plugins are installed: a package and a dist-info directory, as pip leaves them.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import sysconfig
import textwrap
from pathlib import Path

_NOT_NEEDED = ("mypy*", "ruff*", "pip", "pip-*", "hypothesis*", "_hypothesis*", "pygments*")


_WEBHOOK = "taskqueue.webhook.plugin:Webhook.factory"


class Installation:
    """A world-readable copy of the virtual environment that runs the tests."""

    def __init__(self, directory: Path) -> None:
        self.prefix = directory / "venv"
        shutil.copytree(sys.prefix, self.prefix, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
        for path in (self.prefix, *self.prefix.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o044))
        self.packages = Path(str(self.prefix) + sysconfig.get_path("purelib").removeprefix(sys.prefix))
        self._move_scripts()
        self._leave_out_webhook()

    def _move_scripts(self) -> None:
        """Console scripts name their interpreter: let them name this one, as pip would have written them here."""
        for name in ("taskqueue", "taskqueue-dispatcher", "taskqueue-workerpool", "taskqueue-http"):
            script = self.prefix / "bin" / name
            script.write_text(script.read_text().replace(f"{sys.prefix}/bin/", f"{self.prefix}/bin/"))

    def _leave_out_webhook(self) -> None:
        """As on a host without python-taskqueue-http: a test that wants the plugin `webhook` installs it."""
        (listed,) = self.packages.glob("taskqueue-*.dist-info/entry_points.txt")
        listed.write_text(listed.read_text().replace(f"webhook = {_WEBHOOK} [http]\n", ""))

    def site(self, directory: Path) -> Site:
        """A new environment on top of this one."""
        return Site(self, directory)


class Site:
    """An environment of one test: sees all of the installation, and plugins of its own."""

    def __init__(self, base: Installation, directory: Path) -> None:
        self._base = base
        self.prefix = directory
        self.packages = directory / base.packages.relative_to(base.prefix)
        self.packages.mkdir(parents=True)
        (directory / "bin").mkdir()
        shutil.copy(base.prefix / "pyvenv.cfg", directory / "pyvenv.cfg")
        self.python = directory / "bin" / "python"
        self.python.symlink_to((base.prefix / "bin" / "python").resolve())
        (directory / "bin" / "python3").symlink_to("python")
        (self.packages / "base.pth").write_text(f"{base.packages}\n")

    def install_webhook(self) -> None:
        """Install our own plugin `webhook`."""
        directory = self.packages / "webhook_entry-1.0.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text("Metadata-Version: 2.1\nName: webhook-entry\nVersion: 1.0\n")
        (directory / "entry_points.txt").write_text(f"[worker.plugins]\nwebhook = {_WEBHOOK}\n")

    def install(
        self, worker_type: str, source: str, *, entry: str = "Worker.factory", version: str = "1.0", name: str = ""
    ) -> Path:
        """Install, or upgrade, a plugin whose module has `source`; gives the path of the module.

        The worker type is the entry point's name; `name` is the distribution's where it should be another.
        """
        package = f"plugin_{name or worker_type}".replace("-", "_").replace(".", "_")
        self.remove(name or worker_type)
        code = textwrap.dedent(source).lstrip()
        files = {
            f"{package}/__init__.py": "",
            f"{package}/worker.py": code,
            f"{package}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
            f"{package}-{version}.dist-info/entry_points.txt": (
                f"[worker.plugins]\n{worker_type} = {package}.worker:{entry}\n"
            ),
        }
        record = f"{package}-{version}.dist-info/RECORD"
        lines = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
        files[record] = "\n".join([*lines, f"{record},,", ""])
        for path, text in files.items():
            (self.packages / path).parent.mkdir(exist_ok=True)
            (self.packages / path).write_text(text)
        return self.packages / package / "worker.py"

    def script(self, name: str) -> Path:
        """The console script `name`, run by this environment's interpreter, as pip would have written it here."""
        script = self.prefix / "bin" / name
        installed = (self._base.prefix / "bin" / name).read_text()
        script.write_text(installed.replace(f"{self._base.prefix}/bin/", f"{self.prefix}/bin/", 1))
        script.chmod(0o755)
        return script

    def remove(self, name: str) -> None:
        """Uninstall the plugin distribution `name`; harmless where it is not installed."""
        package = f"plugin_{name}".replace("-", "_").replace(".", "_")
        for path in [*self.packages.glob(f"{package}-*.dist-info"), self.packages / package]:
            shutil.rmtree(path, ignore_errors=True)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
