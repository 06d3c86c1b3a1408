"""The plugin's face: its names, where they are imported from, and how a traceback shows them."""

from __future__ import annotations

import traceback

import pytest

import taskqueue.worker
from taskqueue.errors import TaskqueueError
from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded, Task

NAMES = {"BaseWorker", "Reject", "Retry", "SoftTimeLimitExceeded", "Task"}


def test_the_face_has_these_names_and_no_others() -> None:
    assert set(taskqueue.worker.__all__) == NAMES
    assert {each.__name__ for each in (BaseWorker, Reject, Retry, SoftTimeLimitExceeded, Task)} == NAMES


@pytest.mark.parametrize("error", [Retry("why"), Reject("why"), SoftTimeLimitExceeded("why")], ids=repr)
def test_a_traceback_shows_the_name_that_a_plugin_imports(error: TaskqueueError) -> None:
    assert traceback.format_exception_only(error) == [f"taskqueue.worker.{type(error).__name__}: why\n"]


def test_a_subclass_of_a_plugin_keeps_its_own_module() -> None:
    class Busy(Retry):
        pass

    assert Busy.__module__ == __name__


@pytest.mark.parametrize("delay_s", [None, 0, 2.5, 10 * 366 * 86_400])
def test_a_retrys_delay(delay_s: float | None) -> None:
    retry = Retry(delay_s=delay_s)
    assert (retry.delay_s, str(retry)) == (delay_s, "the worker asked for a retry")
