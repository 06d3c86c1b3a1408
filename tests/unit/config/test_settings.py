"""Settings go over a socket as JSON and come back the same."""

from __future__ import annotations

import json
from typing import Any

from configs import load_text
from taskqueue.config import settings


def there(given: Any) -> Any:
    return json.loads(json.dumps(settings.to_json(given)))


def test_over_a_socket_and_back() -> None:
    found = load_text("[workerpool]\nplugins: w\n[w]\nmine: a, b\ntime_limit: 1.5s\nworkers: i\n[w_i]\n")
    (only,) = found.groups(["w"])
    assert settings.group_from_json(there(only)) == only
    assert settings.amqp_from_json(there(found.amqp)) == found.amqp
    assert settings.logging_from_json(there(found.logging)) == found.logging
