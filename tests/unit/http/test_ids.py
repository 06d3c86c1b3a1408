"""Ids of tasks sort by the time of their making."""

from __future__ import annotations

import re
import uuid

from taskqueue.http.ids import is_task_id, new_identity, new_task_id, new_task_ids


def test_a_task_id_is_a_uuid_of_version_7() -> None:
    made = uuid.UUID(new_task_id(1_767_323_045_000))
    assert made.version == 7 and made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_767_323_045_000


def test_ids_of_later_milliseconds_are_greater_and_none_is_twice() -> None:
    ids = [new_task_id(1_767_323_045_000 + number // 100) for number in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(ids[number] < ids[number + 100] for number in range(0, 9_900, 100))


def test_ids_that_are_made_together_are_all_different_and_well_formed() -> None:
    ids = new_task_ids(1_767_323_045_000, 500)
    assert len(set(ids)) == 500 and all(map(is_task_id, ids))
    assert {uuid.UUID(each).version for each in ids} == {7}


def test_what_is_no_id() -> None:
    assert is_task_id(new_task_id(1))
    for text in ("", "x", new_task_id(1).upper() + "x", f"{new_task_id(1)}\n", "'; DROP TABLE tasks"):
        assert not is_task_id(text)
    assert re.fullmatch("[0-9a-f]{12}", new_identity()) and new_identity() != new_identity()
