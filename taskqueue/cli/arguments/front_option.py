"""The option `--url` of the commands that ask a front."""

from __future__ import annotations

import click

front_option = click.option(
    "--url",
    "url",
    metavar="URL",
    help="The front: http://host:port or unix:/path (default: TASKQUEUE_HTTP_URL, or this host's own). A token "
    "is taken from TASKQUEUE_HTTP_TOKEN.",
)
"""The value is passed as `url`, None by default."""
