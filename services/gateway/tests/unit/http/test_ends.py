"""Bodies, queries and ids of every endpoint at the ends of their types: each is taken, or refused by naming it.

`make fuzz` sends the same to a running gateway.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from importlib import import_module
from inspect import isclass, isfunction, signature
from pathlib import Path
from typing import Final

import msgspec
import pytest
from yarl import URL

import gateway
from gateway.http.body import Body, parse_document
from gateway.http.endpoint import Endpoint
from gateway.http.query import Query, decode_cursor, parse_parameters
from gateway.http.return_to import parse_return_to
from gateway.kyc.api import KycSubmissionBody, check_submission
from safevideo_common.errors import SafeVideoError, ValidationFailed
from safevideo_testkit.fuzz.ends import ends_of, texts_of, values_of

FOLDER: Final = Path(gateway.__path__[0])
NOT_ALONE: Final = {"Api", "DocumentationApi"}
"""The protocol, and what documents the others."""


def all_endpoints() -> Sequence[Endpoint]:
    """Return the endpoints of every feature. A declaration needs none of the objects that its handler uses."""
    found: list[Endpoint] = []
    for path in sorted(FOLDER.rglob("*.py")):
        module = import_module(".".join(("gateway", *path.relative_to(FOLDER).with_suffix("").parts)))
        for each in vars(module).values():
            is_own = isclass(each) and each.__module__ == module.__name__ and each.__name__ not in NOT_ALONE
            if is_own and isfunction(declare := vars(each).get("endpoints")):
                found += declare(each.__new__(each))
    return found


ENDPOINTS: Final = all_endpoints()
BODIES: Final = {each.body: each.body_example for each in ENDPOINTS if each.body}
QUERIES: Final = {each.query for each in ENDPOINTS if each.query}
GOOD_DATES: Final = {
    ("birthDate", "1900-01-01"),
    ("birthDate", "2008-11-24"),
    ("documentExpiryDate", "9999-12-31"),
}


def test_every_feature_declares_its_endpoints() -> None:
    assert len(ENDPOINTS) > 50
    assert len(BODIES) > 15
    assert len(QUERIES) > 10


@pytest.mark.parametrize("body", BODIES, ids=lambda each: each.__name__)
def test_every_body_at_an_end_of_a_type_is_parsed_or_refused(body: type[Body]) -> None:
    example = BODIES[body]
    list(results_of(parse_document(body, msgspec.json.encode(example))))
    for end in ends_of(body, example):
        use(partial(parse_document, body, end.document))


@pytest.mark.parametrize("query", sorted(QUERIES, key=str), ids=lambda each: each.__name__)
def test_every_query_at_an_end_of_a_type_is_parsed_or_refused(query: type[Query]) -> None:
    for name, value in values_of(query):
        encoded = URL.build(path="/", query={name: value})
        for url in (encoded, URL(f"/?{name}={value[:9000]}"), URL(f"/?{name}={value[:99]}&{name}=x")):
            use(partial(parse_parameters, query, url.query))


@pytest.mark.parametrize("at_end", ["0001-01-01", "1900-01-01", "2008-11-24", "2008-11-25", "9999-12-31"])
@pytest.mark.parametrize("name", ["birthDate", "documentExpiryDate"])
def test_a_submission_with_a_date_at_its_ends_is_taken_or_names_the_date(name: str, at_end: str) -> None:
    document = msgspec.json.encode({**BODIES[KycSubmissionBody], name: at_end})
    body = parse_document(KycSubmissionBody, document)
    if (name, at_end) in GOOD_DATES:
        check_submission(body, date(2026, 11, 24))
        return
    with pytest.raises(ValidationFailed) as refused:
        check_submission(body, date(2026, 11, 24))
    assert set(refused.value.details or ()) == {name}


def test_every_cursor_and_return_path_at_an_end_is_read_or_refused() -> None:
    for text in texts_of():
        with suppress(ValidationFailed):
            decode_cursor(text, "createdAt", "asc")
        with suppress(ValidationFailed):
            parse_return_to(text)


def use(parse: Callable[[], object]) -> None:
    """Parse, and call what a handler makes of the result. Only our own errors may be raised."""
    try:
        for made in results_of(parse()):
            if isinstance(made, msgspec.Struct):
                list(results_of(made))
    except SafeVideoError as error:
        if error.status >= 500 or not error.details:
            raise


def results_of(value: object) -> Iterator[object]:
    """Yield what the methods of our own classes return that take nothing but the object."""
    for kind in type(value).__mro__:
        if kind.__module__.partition(".")[0] not in {"gateway", "safevideo_common"}:
            continue
        for name, member in vars(kind).items():
            if not name.startswith("_") and isfunction(member) and len(signature(member).parameters) == 1:
                yield member(value)
