"""Every route has an endpoint, and every endpoint a route."""

from __future__ import annotations

from taskqueue.http.api.routes import ROUTES
from taskqueue.http.endpoints.table import ENDPOINTS


def test_the_tables_of_routes_and_endpoints_agree() -> None:
    assert {route.name for route in ROUTES} == ENDPOINTS.keys()
