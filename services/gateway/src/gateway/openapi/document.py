"""The OpenAPI 3.1 document, made from the declarations of the endpoints."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.http.endpoint import Endpoint, RowId, Shape
from safevideo_common import errors
from safevideo_common.auth.authentication import CSRF_HEADER, SESSION_COOKIE
from safevideo_common.errors import SafeVideoError

Json = dict[str, Any]

VERSION: Final = "1.0.0"
REF: Final = "#/components/schemas/{name}"
FILE_TYPES: Final = ("image/jpeg", "application/pdf")
"""The types of stored documents."""

_SECURITY: Final[list[Json]] = [{"accessToken": []}, {"apiClient": [], "apiKey": []}, {"session": []}]
_SECURITY_SCHEMES: Final = {
    "apiClient": {"type": "apiKey", "in": "header", "name": "X-API-Client", "description": "Name of the system."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "One of its keys."},
    "accessToken": {"type": "http", "scheme": "bearer", "description": "The token of a sign-in."},
    "providerToken": {"type": "http", "scheme": "bearer", "description": "A token of the provider of a sign-in."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"The session of a browser. A change needs our own Origin and the header {CSRF_HEADER}.",
    },
}
_REQUEST_ID: Final = {
    "description": "The id of the request in our logs: the caller's own if it sent a valid one.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repetition within 24 hours gets the first response again.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}
_RATE_LIMIT: Final = {
    "X-RateLimit-Limit": {"description": "Requests at once.", "schema": {"type": "integer"}},
    "X-RateLimit-Remaining": {"description": "Requests that are left.", "schema": {"type": "integer"}},
    "X-RateLimit-Reset": {
        "description": "Unix time in seconds at which all requests are there again.",
        "schema": {"type": "integer"},
    },
}
_RETRY_AFTER: Final = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}
_PAGINATION: Final[Json] = {
    "type": "object",
    "properties": {
        **{name: {"type": "integer"} for name in ("currentPage", "itemsPerPage", "totalItems", "totalPages")},
        "hasNextPage": {"type": "boolean"},
        "hasPreviousPage": {"type": "boolean"},
        "nextCursor": {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "Only in lists that take a cursor. A page of a cursor has no numbers of pages and items.",
        },
    },
    "required": ["itemsPerPage", "hasNextPage", "hasPreviousPage"],
}
_PAGINATION_EXAMPLE: Final = {
    "currentPage": 1,
    "itemsPerPage": 20,
    "totalItems": 1,
    "totalPages": 1,
    "hasNextPage": False,
    "hasPreviousPage": False,
}
_EXAMPLE_REQUEST_ID: Final = "0f8fad5bd9cb469fa16570867728950e"


def openapi_document(endpoints: Sequence[Endpoint]) -> Json:
    """Return the document of these endpoints, as JSON."""
    schemas = _schemas(endpoints)
    paths: defaultdict[str, Json] = defaultdict(dict)
    for endpoint in endpoints:
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, schemas)
    for query in {each.query for each in endpoints if each.query}:
        del schemas[query.__name__]  # its members are parameters
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SafeVideo integration",
            "version": VERSION,
            "description": "Performers, received events, jobs and replays. Clients branch on `error.code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(paths),
        "components": {"schemas": schemas, "securitySchemes": _SECURITY_SCHEMES},
    }


def errors_of(endpoint: Endpoint) -> Mapping[int, Mapping[str, type[SafeVideoError]]]:
    """Return every error that the endpoint can answer with: its class by status and code."""
    kinds: list[type[SafeVideoError]] = [*endpoint.errors, errors.InternalError, errors.ServiceUnavailable]
    if endpoint.query or endpoint.body or endpoint.path_parameters:
        kinds.append(errors.ValidationFailed)
    if endpoint.body or endpoint.form:
        kinds += [errors.RequestTimedOut, errors.PayloadTooLarge]
    if endpoint.roles is not None:
        kinds += [errors.Unauthorized, errors.Forbidden]
    if endpoint.roles is not None or endpoint.rate_limit is not None:
        kinds.append(errors.RateLimited)
    if endpoint.takes_idempotency_key:
        kinds += [errors.ValidationFailed, errors.IdempotencyKeyInUse, errors.IdempotencyKeyReused]
    by_status: dict[int, dict[str, type[SafeVideoError]]] = defaultdict(dict)
    for kind in sorted(kinds, key=lambda each: (each.status, each.code)):
        by_status[kind.status].setdefault(kind.code, kind)
    return by_status


def _schemas(endpoints: Sequence[Endpoint]) -> Json:
    """Return the schemas of all documents and models by name."""
    documents = {each.returns.document: None for each in endpoints if each.returns.document}
    models = {model: None for each in endpoints for model in (each.query, each.body) if model}
    _, of_documents = msgspec.json.schema_components([*documents], ref_template=REF)
    _, of_models = models_json_schema(
        [(each, "validation") for each in models], ref_template=REF.format(name="{model}")
    )
    return {**_plain({**of_documents, **of_models.get("$defs", {})}), "Pagination": _PAGINATION}


def _plain(schemas: Mapping[str, Any]) -> Json:
    """Return the schemas without the titles that repeat a name, and without words that JSON Schema does not have."""
    return {name: _plain_schema(schema) for name, schema in schemas.items()}


def _plain_schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_plain_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _plain(value) if key in {"properties", "$defs"} else _plain_schema(value)
        for key, value in schema.items()
        if key not in {"title", "ge", "lt"}
    }


def _operation(endpoint: Endpoint, schemas: Json) -> Json:
    summary, description = _described(endpoint)
    operation: Json = {
        "operationId": endpoint.operation_id,
        "tags": [endpoint.operation_id.partition(".")[0]],
        "summary": summary,
        "parameters": [
            *_path_parameters(endpoint),
            *_query_parameters(endpoint.query, schemas),
            *([_IDEMPOTENCY_KEY] if endpoint.takes_idempotency_key else []),
            *_header_parameters(endpoint),
        ],
        "responses": {**_success(endpoint), **_failures(endpoint)},
    }
    if description:
        operation["description"] = description
    if endpoint.roles is not None:
        operation["security"] = _SECURITY
        operation["x-roles"] = sorted(endpoint.roles)
    if endpoint.takes_provider_token:
        operation["security"] = [{"providerToken": []}]
    if endpoint.body:
        content = {"schema": _ref(endpoint.body.__name__), "example": endpoint.body_example}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    if endpoint.form:
        form = {"schema": {"type": "object", **endpoint.form}}
        operation["requestBody"] = {"required": True, "content": {endpoint.form_type: form}}
    return operation


def _described(endpoint: Endpoint) -> tuple[str, str]:
    """Return the first sentence of the handler's docstring, and the others but for what it raises."""
    text = re.sub(r"\s+", " ", inspect.getdoc(endpoint.handler) or "")
    first, *others = re.split(r"(?<=\.) (?=[A-Z])", text)
    return first.rstrip("."), " ".join(each for each in others if not each.startswith(("Raises ", "Raise ")))


def _path_parameters(endpoint: Endpoint) -> Iterator[Json]:
    for name in endpoint.path_parameters:
        schema = msgspec.json.schema(endpoint.path_types.get(name, RowId))
        schema.pop("$schema", None)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _header_parameters(endpoint: Endpoint) -> Iterator[Json]:
    for name, text in endpoint.headers.items():
        schema = {"type": "string", "pattern": "^[ -~]{1,8192}$"}
        yield {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _query_parameters(query: type[BaseModel] | None, schemas: Json) -> Iterator[Json]:
    if query is None:
        return
    schema = schemas[query.__name__]
    for name, parameter in schema.get("properties", {}).items():
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _without_null(parameter),
        }


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter: one that is not sent is null for us, and nobody can send null."""
    if schema.get("default", ...) is None:
        schema = {key: value for key, value in schema.items() if key != "default"}
    options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return options[0] if len(options) == 1 else {**schema, "anyOf": options} if options else schema


def _success(endpoint: Endpoint) -> Json:
    returns = endpoint.returns
    response: Json = {"headers": {"X-Request-Id": _REQUEST_ID} | (_RATE_LIMIT if endpoint.rate_limit else {})}
    if returns.document is None:
        if returns.shape is Shape.HTML:
            response["content"] = {"text/html": {"schema": {"type": "string"}}}
        elif returns.shape is Shape.FILE:
            response["content"] = {kind: {"schema": {}} for kind in FILE_TYPES}
            response["headers"] |= {"Content-Disposition": {"schema": {"type": "string"}, "required": True}}
        else:
            response["headers"] |= {"Location": {"schema": {"type": "string"}, "required": True}}
        response["description"] = returns.shape.value.capitalize() + "."
    else:
        response["description"] = f"{returns.document.__name__.removesuffix('Document')}."
        response["content"] = {
            "application/json": _content(returns.shape, _ref(returns.document.__name__), returns.example)
        }
    return {str(status): response for status in (returns.status, *returns.other_statuses)}


def _content(shape: Shape, one: Json, example: object) -> Json:
    many = {"type": "array", "items": one}
    match shape:
        case Shape.ONE:
            return {"schema": _envelope(data=one), "example": {"success": True, "data": example}}
        case Shape.LIST:
            return {"schema": _envelope(data=many), "example": {"success": True, "data": [example]}}
        case Shape.PAGE:
            page = {"success": True, "data": [example], "pagination": _PAGINATION_EXAMPLE}
            return {"schema": _envelope(data=many, pagination=_ref("Pagination")), "example": page}
        case _:
            return {"schema": one, "example": example}


def _failures(endpoint: Endpoint) -> Json:
    failures = {str(status): _failure(kinds) for status, kinds in errors_of(endpoint).items()}
    for status in endpoint.returns.other_statuses:  # the document itself says what failed
        failures.pop(str(status), None)
    return failures


def _failure(kinds: Mapping[str, type[SafeVideoError]]) -> Json:
    texts = {code: (inspect.getdoc(kind) or "").split("\n\n")[0] for code, kind in kinds.items()}
    first = next(iter(kinds))
    error = {
        "type": "object",
        "properties": {
            "code": {"enum": list(kinds)},
            "message": {"type": "string"},
            "details": {"type": "object", "description": "Names of fields, and what is wrong with each."},
            "requestId": {"type": "string"},
        },
        "required": ["code", "message", "requestId"],
    }
    message = re.split(r"[;.]", texts[first])[0] + "."
    return {
        "description": " ".join(f"`{code}`: {text}" for code, text in texts.items()),
        "headers": {"X-Request-Id": _REQUEST_ID} | ({"Retry-After": _RETRY_AFTER} if _may_retry(kinds) else {}),
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"success": {"const": False}, "error": error},
                    "required": ["success", "error"],
                },
                "example": {
                    "success": False,
                    "error": {"code": first, "message": message, "requestId": _EXAMPLE_REQUEST_ID},
                },
            }
        },
    }


def _may_retry(kinds: Mapping[str, type[SafeVideoError]]) -> bool:
    return any(kind.status in {429, 503} for kind in kinds.values())


def _envelope(**members: Json) -> Json:
    properties = {"success": {"const": True}, **members}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> Json:
    return {"$ref": REF.format(name=name)}
