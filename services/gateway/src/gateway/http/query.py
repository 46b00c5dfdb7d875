"""Query parameters, parsed once into a model, every wrong or unknown one named; and the id in a path."""

import re
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Final, Literal, TypeVar

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from safevideo_common.errors import ValidationFailed

MAX_PAGE: Final = 1_000_000
"""Deeper pages are a filter's business; and the offset stays a number that every database takes."""

_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _plain_number(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a whole number of up to 9 digits")
    return value


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time of RFC 3339, such as 2026-11-24T20:58:25Z (a plus sign is written %2B)")
    return value


Number = Annotated[int, BeforeValidator(_plain_number)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(3000, 1, 1, tzinfo=UTC)

StorableTimestamp = Annotated[Timestamp, Field(ge=_EPOCH, lt=_END)]
"""A time that every database we run on can hold, in any time zone."""


class Query(BaseModel):
    """Parameters in camelCase; what is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class PageQuery(Query):
    """What every list takes (contract, §2)."""

    page: Number = Field(1, ge=1, le=MAX_PAGE)
    limit: Number = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


Parsed = TypeVar("Parsed", bound=Query)


def parse_query(kind: type[Parsed], request: web.Request) -> Parsed:
    """The request's parameters as `kind`. Raises `ValidationFailed`, whose details have an entry for each wrong one."""
    given = request.query
    repeated = {name: "given more than once" for name in given if len(given.getall(name)) > 1}
    try:
        parsed = kind.model_validate(dict(given))
    except ValidationError as error:
        raise _wrong(reasons(error) | repeated) from None  # pydantic's error quotes the values
    if repeated:
        raise _wrong(repeated)
    return parsed


def row_id_of(request: web.Request) -> int:
    """The row id in the path. Raises `ValidationFailed` for what can be none."""
    given = request.match_info["id"]
    if not _ROW_ID.fullmatch(given):
        raise ValidationFailed("This is no id.", details={"id": "must be a whole number"})
    return int(given)


def reasons(error: ValidationError, whole: str = "") -> dict[str, str]:
    """Why each part was refused, `whole` being the name of all of it. What may be either of two is refused by both."""
    found: dict[str, list[str]] = {}
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else whole
        found.setdefault(name, []).append(fault["msg"].removeprefix("Value error, "))
    return {name: "; or: ".join(texts) for name, texts in found.items()}


def _wrong(details: dict[str, str]) -> ValidationFailed:
    return ValidationFailed("Some query parameters are wrong.", details=details)


def pagination(page: int, limit: int, total: int) -> dict[str, object]:
    """The `pagination` member of a list (contract, §2)."""
    pages = ceil(total / limit)
    return {
        "currentPage": page,
        "itemsPerPage": limit,
        "totalItems": total,
        "totalPages": pages,
        "hasNextPage": page < pages,
        "hasPreviousPage": page > 1,
    }
