"""`GET /openapi.json` and `GET /docs`: complete, valid, and true."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.app import ENDPOINTS, build_app
from gateway.openapi.document import errors_of, openapi_document
from gateway.settings import GatewaySettings
from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.http import Api, running

Json = dict[str, Any]


@pytest.fixture
async def document(gateway: Api) -> Json:
    answer = await gateway.get("/openapi.json")
    assert answer.headers["Content-Type"].startswith("application/json")
    parsed: Json = answer.json
    return parsed


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def holds(document: Json, schema: Json, value: Any) -> bool:
    """Whether a value keeps a schema of ours, and has no undeclared member."""
    if "$ref" in schema:
        return holds(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value)
    if "anyOf" in schema:
        return any(holds(document, each, value) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
        "array": list, "object": dict,
    }  # fmt: skip
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(holds(document, schema.get("items", {}), each) for each in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return set(schema.get("required", ())) <= set(value) <= set(known) and all(
            holds(document, known[name], member) for name, member in value.items()
        )
    return True


def examples(document: Json) -> Iterator[tuple[str, Json, Any]]:
    """Every example with its schema."""
    for path, method, operation in operations(document):
        for holder in (operation.get("requestBody"), *operation["responses"].values()):
            for content in (holder or {}).get("content", {}).values():
                if "example" in content:
                    yield f"{method} {path}", content["schema"], content["example"]


async def test_every_operation_has_a_unique_name_a_summary_and_errors(document: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, _, operation in operations(document):
        assert operation["summary"], path
        assert "500" in operation["responses"]
        if "x-roles" in operation:
            assert {"401", "403", "429"} <= set(operation["responses"])


async def test_every_example_keeps_its_schema(document: Json) -> None:
    found = list(examples(document))
    assert len(found) > 50
    assert [name for name, schema, example in found if not holds(document, schema, example)] == []


async def test_every_schema_is_used_and_every_reference_leads_to_one(document: Json) -> None:
    text = str(document)
    names = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) == names


async def test_every_declared_error_is_documented(
    settings: GatewaySettings, embedded_broker: Broker, log: FilteringBoundLogger
) -> None:
    app = build_app(settings, embedded_broker, log)
    async with running(app, settings):
        endpoints = app[ENDPOINTS]
    paths = openapi_document(endpoints)["paths"]
    for endpoint in endpoints:
        responses = paths[endpoint.path][endpoint.method.lower()]["responses"]
        for status, kinds in errors_of(endpoint).items():
            if status not in endpoint.returns.other_statuses:
                schema = responses[str(status)]["content"]["application/json"]["schema"]
                assert schema["properties"]["error"]["properties"]["code"]["enum"] == list(kinds)


async def test_every_body_example_is_understood(gateway: Api, admin: dict[str, str], document: Json) -> None:
    for path, method, operation in operations(document):
        if content := operation.get("requestBody", {}).get("content", {}).get("application/json"):
            example = content["example"]
            url = gateway.base_url + path.replace("{id}", "999999")
            async with gateway.session.request(method, url, headers=admin, json=example) as answer:
                body = await answer.json()
                assert body.get("error", {}).get("code") != "VALIDATION_ERROR", (path, body)
                documented = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
                assert holds(document, documented, body), (path, body)


class References(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: set[str] = set()
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in {"script", "link", "img", "iframe", "object"} or "src" in values:
            self.found.append(tag)
        self.anchors.add(values.get("id") or "")
        self.targets.add(values.get("href") or "")


async def test_page_names_every_operation_and_loads_nothing(gateway: Api, document: Json) -> None:
    answer = await gateway.get("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = References()
    page.feed(answer.body.decode())
    assert page.found == []
    assert {operation["operationId"] for _, _, operation in operations(document)} <= page.anchors
    assert {each.removeprefix("#") for each in page.targets if each.startswith("#")} <= page.anchors
    assert {each for each in page.targets if not each.startswith("#")} == {"", "/openapi.json"}
