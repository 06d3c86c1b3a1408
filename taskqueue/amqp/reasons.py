"""Why a connection or a channel ended, in one line for an operator, and whether only a person can help. Pure.

Example: pika reports `AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(ConnectionRefusedError())])`; the
log and `taskqueue status` say "connection refused".
"""

from __future__ import annotations

import pika.exceptions

from taskqueue.amqp import seams

FORBIDDEN, NOT_FOUND, PRECONDITION_FAILED = 403, 404, 406
"""Reply codes (AMQP 0-9-1, 1.2): no permission, no such queue, the queue exists with other arguments."""


def describe(error: BaseException | None) -> str:
    """One line for an operator: why a connection could not be made, or ended."""
    cause = _innermost(error)
    match cause:
        case None:
            return "connection lost"
        case pika.exceptions.ProbableAuthenticationError():
            return "the broker refuses the user or password ([amqp] user, passwd)"
        case pika.exceptions.ProbableAccessDeniedError():
            return "the broker refuses access to the virtual host ([amqp] vhost)"
        case pika.exceptions.AMQPHeartbeatTimeout():
            return "no heartbeat from the broker"
        case pika.exceptions.ConnectionClosed() | pika.exceptions.ChannelClosed():
            return f"{cause.reply_code} {cause.reply_text}"
        case pika.exceptions.StreamLostError() | pika.exceptions.IncompatibleProtocolError():
            return "the connection was cut"
        case seams.NO_ANSWER_IN_TIME() | pika.exceptions.ConnectionOpenAborted():
            return "no answer in time"
        case OSError(strerror=str(text)):
            return text.lower()
    return str(cause) or type(cause).__name__


def is_refusal(error: BaseException | None) -> bool:
    """Whether the broker answered, and refused us: only a person can help."""
    cause = _innermost(error)
    if isinstance(cause, pika.exceptions.ConnectionClosed):
        return bool(cause.reply_code in {FORBIDDEN, 530, 541})
    return isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError)


def _innermost(error: BaseException | None) -> BaseException | None:
    """The cause, which pika wraps up to four times: workflow, phase, connection error, socket error."""
    while error is not None:
        inner = getattr(error, "exceptions", None) or [getattr(error, "exception", None)]
        below = inner[-1]
        if below is None and type(error) is pika.exceptions.AMQPConnectionError and error.args:
            below = error.args[0]
        if not isinstance(below, BaseException):
            return error
        error = below
    return None
