"""The documentation page: plain HTML of the OpenAPI document. It loads nothing and runs no script."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from typing import Any, Final

Json = Mapping[str, Any]

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #f4f5f7; padding: .75rem; overflow-x: auto; border-radius: 4px; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d4da; }
h3 { margin-top: 2rem; }
.method { display: inline-block; min-width: 4rem; font-weight: bold; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e6e8eb; }
"""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def html_page(document: Json) -> str:
    """Return the page for an OpenAPI document."""
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    return "".join(_page(document, operations))


def _page(document: Json, operations: list[tuple[str, str, Json]]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
    yield f"<p>{_text(document['info']['description'])}"
    yield ' The same for programs: <a href="/openapi.json"><code>/openapi.json</code></a>, OpenAPI 3.1.</p><ul>'
    for path, method, operation in operations:
        yield f'<li><a href="#{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></a>'
        yield f" {_text(operation['summary'])}</li>"
    yield "</ul>"
    by_tag = sorted(operations, key=lambda each: each[2]["tags"][0])
    for tag, of_tag in groupby(by_tag, key=lambda each: each[2]["tags"][0]):
        yield f"<h2>{escape(tag)}</h2>"
        for path, method, operation in of_tag:
            yield from _operation(path, method, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>{_json(schema)}'
    yield "</body></html>"


def _operation(path: str, method: str, operation: Json) -> Iterator[str]:
    yield f'<h3 id="{escape(operation["operationId"])}"><span class="method">{method.upper()}</span> '
    yield f"<code>{escape(path)}</code></h3><p>{_text(operation['summary'])}."
    yield f" {_text(operation.get('description', ''))}</p>"
    roles = operation.get("x-roles")
    yield f"<p>Roles: {escape(', '.join(roles)) if roles else 'none needed'}.</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter</th><th>in</th><th>schema</th></tr>"
        for each in operation["parameters"]:
            name = f"<code>{escape(each['name'])}</code>{' (required)' if each.get('required') else ''}"
            schema = f"<code>{escape(json.dumps(each['schema']))}</code>"
            yield f"<tr><td>{name}</td><td>{escape(each['in'])}</td><td>{schema}</td></tr>"
        yield "</table>"
    if "requestBody" in operation:
        yield "<p>Body:</p>"
        yield from _contents(operation["requestBody"])
    for status, response in operation["responses"].items():
        yield f"<p><strong>{escape(status)}</strong> {_text(response['description'])}</p>"
        if status < "300":
            yield from _contents(response)


def _contents(holder: Json) -> Iterator[str]:
    for content in holder.get("content", {}).values():
        yield from map(_link, _names_in(content["schema"]))
        if "example" in content:
            yield _json(content["example"])


def _names_in(schema: object) -> Iterator[str]:
    """Yield the names of the schemas that a schema refers to."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for member in schema.values():
            yield from _names_in(member)


def _link(name: str) -> str:
    return f'<p>Schema: <a href="#schema-{escape(name)}"><code>{escape(name)}</code></a></p>'


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _text(text: str) -> str:
    """Return prose as HTML: what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
