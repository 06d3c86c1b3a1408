"""AMQP: connect, fail over, declare, consume, browse, publish confirmed, settle. The only user of pika.

This package must never know what a workitem means; it moves `Delivery` and `Properties`.
"""

from taskqueue.amqp.browser import Browser
from taskqueue.amqp.confirm_channel import Published
from taskqueue.amqp.connection import Connection
from taskqueue.amqp.consumer import Consumer
from taskqueue.amqp.declarer import Declarer
from taskqueue.amqp.inspector import Counts, Inspector
from taskqueue.amqp.publisher import Publisher
from taskqueue.amqp.wire import Delivery

__all__ = [
    "Browser",
    "Connection",
    "Consumer",
    "Counts",
    "Declarer",
    "Delivery",
    "Inspector",
    "Published",
    "Publisher",
]
