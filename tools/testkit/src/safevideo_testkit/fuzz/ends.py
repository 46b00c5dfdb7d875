"""Documents of a type with one value at an end of its type: the first and the last of its range, and what is beyond.

The type is a `msgspec.Struct` or a pydantic model. Its JSON Schema says which members there are, so a new member is
tried without a new test.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec
from pydantic import BaseModel

LONG: Final = 65_536
DEEP: Final = 100_000
MAX_LEVEL: Final = 6
"""Levels of a type that are walked."""

_TIMES: Final = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00-23:59", "1000-01-01T00:00:00Z",
    "1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+23:59", "2000-01-01T00:00:00Z", "2026-11-24T12:00:00+23:59",
    "2026-11-24T12:00:00-23:59", "2026-11-24T12:00:00+24:00", "2026-11-24T12:00:00-24:00", "2026-11-24T12:00:60Z",
    "2026-11-24T24:00:00Z", "2026-11-24T12:00:00", "2026-11-24T12:00:00.123456789Z", "2026-02-30T00:00:00Z",
    "2999-12-31T23:59:59-23:59", "2999-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "9998-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999+23:59",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
)  # fmt: skip
_DATES: Final = (
    "0001-01-01", "1899-12-31", "1900-01-01", "1970-01-01", "2004-02-29", "9999-12-30", "9999-12-31", "0000-00-00",
    "10000-01-01", "2026-02-30", "٢٠٢٦-01-01",
)  # fmt: skip
_TEXTS: Final = (
    "", " ", "\0", "\n", "a\0b", "a\nb", "a\r\nb", "\x1b[2J", "\x7f", "\u0085", "\u009b2J", "\u202e", "\u2028",
    "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\u3000", "e\u0301", "ß", "İ", "😀", "%00", "%ED%A0%80", "' OR 1=1",
    "0", "-1", "1e9", "null", "true", "../..", "//host", "http://", "http://[::1", "http://x:99999", "https://x:99999999999999999/",
)  # fmt: skip
_NUMBERS: Final = (
    0, -1, 1, 2**31 - 1, 2**31, 2**53 + 1, 10**18, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**400, -(10**400),
)  # fmt: skip
_RAW: Final = (
    b"1.5", b"-0.0", b"1e308", b"1e400", b"1e-400", b"NaN", b"Infinity", b"1" + b"0" * 5_000, b"null", b"true", b"[]",
    b"{}", b'"x"', b"0", b"[[]]", b'{"a":1,"a":2}', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"',
    b"", b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"[" * 200 + b"]" * 200,
)  # fmt: skip
"""JSON that no Python value is written as, and each type of JSON: tried in every path."""


class End(NamedTuple):
    """A document, and the path in it that is at an end."""

    path: str
    document: bytes


class _Written(NamedTuple):
    """A value as its JSON text."""

    text: bytes


_LONG_LIST: Final = _Written(b"[" + b",".join([b"0"] * LONG) + b"]")


def ends_of(kind: type, example: Mapping[str, object]) -> Iterator[End]:
    """Yield the documents of `kind` with one value at an end. `example` is a good one with many members.

    A member that the example lacks is tried too. So are a member that is missing, is there twice, or is unknown.
    """
    schema, definitions = _schema(kind)
    yield from _ends(schema, definitions, example)


def values_of(kind: type) -> Iterator[tuple[str, str]]:
    """Yield each field of a flat type with each text at an end, as a query or a form has them."""
    schema, definitions = _schema(kind)
    for name, member in _members(schema, definitions):
        for each in _values(member, definitions):
            value = each if isinstance(each, str) else _written(each).decode("utf-8", "surrogateescape")
            if len(value) <= LONG + 1:
                yield name, value


def texts_of(longest: int = LONG) -> Iterator[str]:
    """Yield texts at the ends of what a text can be, and times, dates and numbers as texts."""
    texts = chain(_texts({"maxLength": longest}), _TIMES, _DATES, (str(each) for each in _NUMBERS[:-2]))
    yield from (each for each in texts if len(each) <= longest + 1)


def _schema(kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    if issubclass(kind, BaseModel):
        schema = kind.model_json_schema()
        return schema, schema.get("$defs", {})
    (schema,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return schema, definitions


def _ends(schema: dict[str, Any], definitions: dict[str, Any], example: object) -> Iterator[End]:
    for raw in _RAW:
        yield End("", raw)
    for path, document in _changed(schema, definitions, example, 0):
        yield End(path, _written(document))


def _changed(
    schema: dict[str, Any], definitions: dict[str, Any], example: object, level: int
) -> Iterator[tuple[str, object]]:
    """Yield `example` with one of its members, or of theirs, changed."""
    if level > MAX_LEVEL:
        return
    members = dict(_members(schema, definitions))
    document: Mapping[str, object] = example if isinstance(example, Mapping) else {}
    for name in document:
        yield f"{name} is missing", {other: value for other, value in document.items() if other != name}
    yield "unknown", {**document, "a member of nobody": 1}
    yield "\0", {**document, "\0": 1, "a" * LONG: 1}
    for name, member in members.items():
        if name in document:
            yield f"{name} twice", _twice(document, name)
        for value in _values(member, definitions):
            yield name, {**document, name: value}
        for path, inner in _inner(member, definitions, document.get(name), level):
            yield f"{name}.{path}", {**document, name: inner}


def _inner(
    schema: dict[str, Any], definitions: dict[str, Any], example: object, level: int
) -> Iterator[tuple[str, object]]:
    for each in _alternatives(schema, definitions):
        if "properties" in each:
            yield from _changed(each, definitions, example, level + 1)
        items = each.get("items")
        if isinstance(items, dict):
            first = example[0] if isinstance(example, Sequence) and example and not isinstance(example, str) else None
            yield from (("[]", [value]) for value in _values(items, definitions))
            yield from ((f"[].{path}", [value]) for path, value in _inner(items, definitions, first, level + 1))


def _values(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[object]:
    """Yield values at the ends of one path: those of its types, and what no path takes."""
    yield from (_Written(raw) for raw in _RAW if raw)
    for each in _alternatives(schema, definitions):
        yield from each.get("enum", ())
        match each.get("type"):
            case "string":
                yield from chain(_texts(each), _times(each))
            case "integer" | "number":
                yield from chain(_NUMBERS, _bounds(each))
            case "array":
                yield from ([], [None], _LONG_LIST, [[]] * 2)
            case _:
                pass


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    yield from _TEXTS
    lengths = {schema.get("minLength", 0), schema.get("maxLength", LONG), LONG}
    for length in sorted({each + step for each in lengths for step in (-1, 0, 1)}):
        yield "a" * max(0, length)
        yield "😀" * max(0, length)


def _times(schema: dict[str, Any]) -> Iterator[str]:
    # A query has times and dates without saying so: its texts are checked by a pattern of their own.
    yield from _TIMES
    if schema.get("format") != "date-time":
        yield from _DATES


def _bounds(schema: dict[str, Any]) -> Iterator[float]:
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if name in schema:
            yield from (schema[name] - 1, schema[name], schema[name] + 1)


def _members(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in _alternatives(schema, definitions):
        yield from each.get("properties", {}).items()


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _alternatives(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for name in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(name, ()):
            yield from _alternatives(each, definitions)
    if "$ref" not in schema and "anyOf" not in schema:
        yield schema


def _twice(document: Mapping[str, object], name: str) -> _Written:
    text = _written(document)
    return _Written(text[:-1] + b"," + _written(name) + b":" + _written("another") + b"}")


def _written(value: object) -> bytes:
    """Return the JSON text of a value, whatever is in it."""
    if isinstance(value, _Written):
        return value.text
    if isinstance(value, Mapping):
        return b"{" + b",".join(_written(str(name)) + b":" + _written(each) for name, each in value.items()) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_written, value)) + b"]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**400:
        return b"-"[: value < 0] + b"1" + b"0" * 400
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
