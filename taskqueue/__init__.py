"""Taskqueue divides work among networked Debian hosts over AMQP."""

__version__ = "0.1.0"
