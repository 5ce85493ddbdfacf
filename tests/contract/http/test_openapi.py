"""The OpenAPI document says what the service does."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES
from serve_app.http.app import create_app
from serve_app.http.problems import STATUS, describe_problem
from serve_app.http.row.row_body import parse_row
from serve_app.http.schemas import MAX_ID_LENGTH, Problem
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit

pytestmark = pytest.mark.contract


def fetch(path: str) -> httpx.Response:
    async def main():
        app = create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.get(path)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def document() -> dict:
    answer = fetch("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="module")
def request_schema(document) -> dict:
    return document["components"]["schemas"]["PurchaseRequest"]


def test_it_is_openapi_3(document):
    assert re.fullmatch(r"3\.[01]\.\d+", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    assert set(document["paths"]) >= {"/predict_purchase", "/livez", "/readyz"}


def test_every_reference_resolves(document):
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert references
    for reference in references:
        assert reference.startswith("#/")
        node = document
        for part in reference[2:].split("/"):
            node = node[part]


def test_a_request_may_have_all_features_and_ids(request_schema):
    ids = {"user_id", "session_id", "product_id", "event_time", "event_id", "category_id", "observe"}
    assert set(request_schema["properties"]) == ids | set(PURCHASE_NAMES)
    assert all(p.get("description") for p in request_schema["properties"].values())


def test_what_is_required_is_what_the_parser_requires(request_schema):
    example = request_schema["examples"][0]
    for name in request_schema["properties"]:
        body = json.dumps({k: v for k, v in example.items() if k != name}).encode()
        if name in request_schema["required"]:
            with pytest.raises(Exception, match=f"/{name}"):
                parse_row(body)
        else:
            parse_row(body)


def test_the_example_is_a_request_that_is_understood(request_schema):
    for example in request_schema["examples"]:
        row = parse_row(json.dumps(example).encode())
        assert {k: row[k] for k in example} == example


def test_documented_bounds_are_those_of_the_features(request_schema):
    for spec in PURCHASE_FEATURES:
        if spec.kind == "numeric":
            schema = request_schema["properties"][spec.name]
            numbers = [s for s in [schema, *schema.get("anyOf", [])] if s.get("type") in ("number", "integer")]
            assert numbers, spec.name
            assert numbers[0].get("minimum") == spec.minimum
            assert numbers[0].get("maximum") == spec.maximum
            assert numbers[0].get("exclusiveMinimum") == spec.above


def test_ids_have_their_documented_length(request_schema):
    assert f'"maxLength": {MAX_ID_LENGTH}' in json.dumps(request_schema["properties"]["user_id"])


def test_every_status_a_prediction_may_have_is_documented_as_a_problem(document):
    responses = document["paths"]["/predict_purchase"]["post"]["responses"]
    expected = set(STATUS.values()) - {406, 409, 429}
    assert {int(s) for s in responses} == {200, *expected}
    for status in expected:
        (media,) = responses[str(status)]["content"].items()
        assert media == ("application/problem+json", {"schema": {"$ref": "#/components/schemas/Problem"}})
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]


def test_a_problem_has_the_documented_members(document):
    schema = document["components"]["schemas"]["Problem"]
    assert set(schema["properties"]) == {"type", "title", "status", "detail", "request_id", "errors"}
    for kind in STATUS:
        _, members, _ = describe_problem(kind("x"), "r")
        assert Problem.model_validate(members).model_dump(exclude_unset=True) == members


def operations(document: dict) -> list[dict]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_every_operation_has_a_name_that_reads_well_and_one_group(document):
    found = operations(document)
    names = [operation["operationId"] for operation in found]
    assert len(set(names)) == len(names) > 25
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in names)
    assert {"predictPurchase", "invocations", "inferModel", "recordEvents", "startRollout", "startJob"} <= set(names)
    groups = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(len(description) > 20 for description in groups.values())
    assert {tag for operation in found for tag in operation["tags"]} == set(groups)
    assert {len(operation["tags"]) for operation in found} == {1}
    assert all(operation["summary"] and operation["description"] for operation in found)


def test_a_member_that_may_be_left_out_is_optional_to_every_generator(document):
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for member, described in schema.get("properties", {}).items():
            assert "default" not in described, f"{name}.{member} would be generated as one that is always there"
    assert schemas["CommandBody"].get("required", []) == []
    assert "Default `http`." in schemas["CommandBody"]["properties"]["who"]["description"]
    assert schemas["Tensor"]["required"] == ["name", "datatype", "shape"]
    assert schemas["InferBody"]["required"] == ["inputs"]
    assert "observe" not in schemas["PurchaseRequest"]["required"]
    assert "errors" not in schemas["Problem"]["required"]


def test_what_no_route_answers_is_not_documented(document):
    assert "ValidationError" not in json.dumps(document)


def test_headers_of_answers_are_documented(document):
    def headers(path: str, status: int) -> set[str]:
        return set(document["paths"][path]["post"]["responses"][str(status)]["headers"])

    routing = {"X-Model-Version", "X-Route-Reason", "X-Request-Id"}
    assert headers("/predict_purchase", 200) == routing | {"X-Prediction-Id", "X-Observed", "X-Ignored-Columns"}
    assert headers("/invocations", 200) == routing | {"X-Ignored-Columns"}
    assert headers("/v2/models/{model}/infer", 200) == routing | {"Inference-Header-Content-Length"}
    assert "Location" in headers("/v1/jobs", 202) & headers("/v1/rollouts", 201)
    for operation in operations(document):
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"]
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503", "504"})
            assert ("Accept-Encoding" in response["headers"]) == (status == "415")


def test_the_prediction_documents_its_parameters(document):
    operation = document["paths"]["/predict_purchase"]["post"]
    assert {(p["in"], p["name"]) for p in operation["parameters"]} == {
        ("query", "detail"), ("query", "explain"), ("query", "defaults"),
        ("header", "X-Request-Timeout-Seconds"), ("header", "X-Request-Id"), ("header", "X-Model-Version"),
    }  # fmt: skip
    assert operation["requestBody"]["required"] is True
    assert operation["summary"]
    assert operation["description"]


def test_the_documentation_page_is_served():
    page = fetch("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 2
    assert {fetch(path).status_code for path in loaded if path.startswith("/")} == {200}
    assert not [path for path in loaded if not path.startswith("/")], "the page must work without internet"
