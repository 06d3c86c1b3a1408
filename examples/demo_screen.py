"""What a person sees of the demonstration, and what ends it.

1. `screen.title("Starting")` begins a part; `screen.row("broker", "a private RabbitMQ …")` says one thing of it.
2. `screen.progress(2500, 10_000, 2100.0)` moves a bar on a terminal, and says a line for each quarter elsewhere.
"""

from __future__ import annotations

import os
import sys
import time


class DemoError(Exception):
    """Something is not as it must be; the text is for a person."""


class Screen:
    """What a person sees: plain text, aligned; colours and a moving line only on a terminal."""

    def __init__(self) -> None:
        self.moving = sys.stdout.isatty()
        self.colours = self.moving and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._open = False
        self._drawn = 0.0
        self._told = 0

    def line(self, text: str = "") -> None:
        """One line."""
        self._clear()
        print(text, flush=True)

    def title(self, text: str) -> None:
        """The head of a part."""
        self._told = 0
        self.line()
        self.line(self._paint("1", text))

    def row(self, name: str, text: str, *, good: bool | None = None) -> None:
        """A name, and what there is to say of it."""
        code = {None: "36", True: "32", False: "31;1"}[good]
        self.line(f"  {self._paint(code, f'{name:<14}')}{text}")

    def progress(self, done: int, total: int, per_s: float) -> None:
        """How far it is: a moving line on a terminal, else a line for each quarter."""
        text = f"{done:>9,} of {total:,}  {per_s:>7,.0f}/s"
        if self.moving:
            if done < total and time.monotonic() - self._drawn < 0.1:
                return
            self._drawn = time.monotonic()
            filled = 30 * done // total
            bar = self._paint("32", "=" * filled) + "." * (30 - filled)
            end = "\n" if done == total else ""
            print(f"\r  {self._paint('36', 'progress      ')}[{bar}]{text}\x1b[K", end=end, flush=True)
            self._open = done < total
        elif done * 4 // total > self._told:
            self._told = done * 4 // total
            self.row("progress", text.strip())

    def _clear(self) -> None:
        if self._open:
            print("\r\x1b[K", end="")
            self._open = False

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text
