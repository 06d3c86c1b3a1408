"""Orders from the listener to its two neighbours: the pool, and the template of its group.

Without its pool a listener ends at once: all that is not settled goes back to the broker. Without its template it
goes on until it reads the end of the template's link. This module must never read an order, nor act on one.
"""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from taskqueue.errors import LinkError
from taskqueue.link import orders
from taskqueue.link.packets import Link

log = logging.getLogger(__name__)


class Peers:
    """Sends orders over the links `pool` and `template`; `group` is for the log."""

    def __init__(self, group: str, pool: Link, template: Link) -> None:
        self.pool = pool
        self.template = template
        self._group = group

    def to_pool(self, order: orders.Order) -> None:
        """Send `order` to the pool; does not return where the pool is gone."""
        try:
            orders.send(self.pool, order, wait=True)
        except LinkError:
            self.end_without_pool()

    def to_template(self, order: orders.Order) -> None:
        """Send `order` to the template; without effect where the template is gone."""
        try:
            orders.send(self.template, order, wait=True)
        except LinkError as error:
            log.debug("template is gone: group=%s error=%s", self._group, error)  # handled where its link is read

    def end_without_pool(self) -> NoReturn:
        """End this process; the broker has back all that is not settled."""
        log.warning("pool is gone: group=%s; ending", self._group)
        os._exit(1)
