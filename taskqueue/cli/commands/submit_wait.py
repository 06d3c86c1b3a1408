"""The part of `taskqueue submit --wait` that waits for results and prints them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from taskqueue.cli.arguments.submission import Submission
from taskqueue.cli.operator import Operator
from taskqueue.client import Client, Result
from taskqueue.errors import ResultTimeout, WorkitemFailed


def submit_and_wait(
    operator: Operator, client: Client, submission: Submission, bodies: Iterable[bytes], timeout_s: float | None
) -> int:
    """Submit all of them, then print each result in the same order; 1 where one is an error. Raises `ResultTimeout`
    where they did not all come within `timeout_s` seconds."""
    try:
        submitted = [client.submit(submission.worker_type, body, **submission.options(body)) for body in bodies]
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        status = 0
        for each in submitted:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                status |= _show_result(operator, client.wait(each, left_s))
            except ResultTimeout:
                raise ResultTimeout(f"no result of workitem {each.message_id} within {timeout_s:g} s") from None
        return status
    finally:
        client.close()


def _show_result(operator: Operator, result: Result) -> int:
    """Print a result; 1 for an error."""
    show = operator.show
    if show.as_json:
        show.document(
            {"id": result.message_id, "status": result.status, "result": result.value, "headers": result.headers}
        )
    elif result.ok:
        show.value(result.value)
    else:
        try:
            result.get()
        except WorkitemFailed as error:
            show.note(f"workitem {error.message_id} failed: {error}")
            show.trace(error.trace)
    return 0 if result.ok else 1
