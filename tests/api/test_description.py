"""The OpenAPI description is true: requests made from it, valid and invalid ones, get only answers that it has."""

import contextlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from calotype.api.app import create_app
from calotype.api.settings import ServiceSettings
from calotype.jobs.store import JobStore
from calotype.options import about, visible
from calotype.settings import Settings
from calotype.tasks import TASKS
from tests.api.conftest import png, working

schemathesis = pytest.importorskip("schemathesis")
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import CHECKS as CHECKS_BY_NAME  # noqa: E402

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
# Valid ones, and as many invalid ones, of each of more than 90 operations; 54 are 10,000 in all and take hours.
EXAMPLES = int(os.environ.get("CALOTYPE_EXAMPLES", "20"))


@pytest.fixture(scope="session")
def described_app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    home, service = Settings.gather({"home": folder / "home"}, environ={}), ServiceSettings(allow_host=("testserver",))
    store = JobStore("", folder / "service")
    with working(store, png()):  # requests of A1111's API wait for their job
        yield create_app(store, home, service)


@pytest.fixture(scope="session")
def api_schema(described_app):
    return schemathesis.openapi.from_asgi("/openapi.json", described_app)


def run_examples(schema, count, paths=None, **options):
    """Sends `count` valid and `count` invalid requests to each operation. Returns how many were sent."""
    checks = CHECKS_BY_NAME.get_by_names(CHECKS)
    sent = 0
    for operation in (result.ok() for result in schema.get_all_operations()):
        if paths and operation.path not in paths:
            continue
        has_files = any(body.media_type == "multipart/form-data" for body in operation.body)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if has_files and mode == GenerationMode.NEGATIVE:
                continue  # schemathesis cannot compare files with their schema; test_openai.py has invalid forms

            def send(case):
                nonlocal sent
                sent += 1
                case.call_and_validate(checks=checks)

            examples = operation.as_strategy(generation_mode=mode)
            limits = settings(
                max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), **options
            )
            with contextlib.suppress(Unsatisfiable):  # nothing in the operation can be invalid
                limits(given(case=examples)(send))()
    return sent


@pytest.mark.slow
def test_every_answer_is_described(api_schema):
    assert run_examples(api_schema, EXAMPLES) >= 10_000 * EXAMPLES // 210


@pytest.mark.slow
def test_answers_are_described(api_schema):
    paths = ("/jobs", "/presets/{preset}", "/tasks/{kind}", "/uploads/{upload_id}", "/jobs/{job_id}/events")
    paths += ("/v1/images/generations", "/v1/models/{model}", "/mcp")
    assert run_examples(api_schema, 3, paths, derandomize=True) > 30


def test_the_options_of_tasks_are_those_of_the_program(described_app):
    components = described_app.openapi()["components"]["schemas"]
    for cls in TASKS.values():
        names = {spec.name for spec in visible(cls) if not about(spec).is_path}
        assert components[cls.__name__]["properties"].keys() == names
    references = described_app.openapi()["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(references["schema"]["oneOf"]) == len(TASKS)
    assert {"imagine", "restore", "upscale"} <= references["examples"].keys()
