"""schemathesis asks the API everything that its description allows, and much that it does not."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings

from encore.hub.settings import read_settings
from encore.hub.web.app import create_app


def test_the_api_keeps_its_description(tmp_path: Path) -> None:
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", create_app(read_settings(tmp_path)))
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.append(operation.label)

        @given(case=operation.as_strategy())
        @example_settings(
            max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
        )
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate()

        ask()
    assert len(asked) == 11
