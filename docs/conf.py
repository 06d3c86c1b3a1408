"""Sphinx: the man pages, docs/man/NAME.SECTION.rst. A page is found by its name, and its title gives the summary.

Those of the command taskqueue are made here, of its help texts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import commands

commands.write("man", Path(__file__).parent / "man")

project = "taskqueue"
author = "The taskqueue authors"
exclude_patterns = ["*.rst"]  # the pages alone
master_doc = "man/index"


def _summary(page: Path) -> str:
    """`what it is`, of a title `name -- what it is`."""
    return page.read_text().split("\n", 1)[0].partition(" -- ")[2]


_pages = sorted(Path(__file__).parent.glob("man/*.[1-8].rst"))
man_pages = [(f"man/{page.stem}", page.stem[:-2], _summary(page), "", int(page.stem[-1])) for page in _pages]
