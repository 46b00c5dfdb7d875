"""Query parameters, parsed into a model; pages of a list; the id in a path. Each wrong parameter is named."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Final, Literal, TypeVar

from aiohttp import web
from multidict import MultiMapping
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from safevideo_common.clock import utc_text
from safevideo_common.domain.times import EVENT_YEARS
from safevideo_common.errors import ValidationFailed
from safevideo_common.web.responses import success

MAX_PAGE: Final = 1_000_000
"""Use a filter instead of deeper pages. The offset stays a number that every database accepts."""

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


def _true_or_false(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value


def _row_number(value: object) -> object:
    if isinstance(value, str) and not _ROW_ID.fullmatch(value):
        raise ValueError("must be the id of an item")
    return value


Number = Annotated[int, BeforeValidator(_plain_number)]
QueryFlag = Annotated[bool, BeforeValidator(_true_or_false)]
RowNumber = Annotated[int, BeforeValidator(_row_number)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]

_EPOCH: Final = datetime(EVENT_YEARS.start, 1, 1, tzinfo=UTC)
_END: Final = datetime(EVENT_YEARS.stop, 1, 1, tzinfo=UTC)

StorableTimestamp = Annotated[Timestamp, Field(ge=_EPOCH, lt=_END)]
"""A time that each of our databases can store, in any time zone."""


class Query(BaseModel):
    """Parameters in camelCase; an undeclared parameter is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class PageQuery(Query):
    """The parameters of every list (contract, §2)."""

    page: Number = Field(1, ge=1, le=MAX_PAGE)
    limit: Number = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"

    def response(self, items: Iterable[object], total: int) -> web.Response:
        """Return this page of a list, with its `pagination` member (contract, §2)."""
        return success(list(items), extra={"pagination": self.pagination(total)})

    def pagination(self, total: int) -> dict[str, object]:
        """Return the `pagination` member of a page with a number."""
        pages = ceil(total / self.limit)
        return {
            "currentPage": self.page,
            "itemsPerPage": self.limit,
            "totalItems": total,
            "totalPages": pages,
            "hasNextPage": self.page < pages,
            "hasPreviousPage": self.page > 1,
        }


class KeyedPageQuery(PageQuery):
    """The parameters of a list that grows while it is read: `after` is the id of the last item that the caller has."""

    after: RowNumber | None = None

    @field_validator("after")
    @classmethod
    def _is_one_way(cls, after: int | None, info: ValidationInfo) -> int | None:
        if after is not None and info.data.get("page", 1) > 1:
            raise ValueError("page and after exclude each other")
        return after

    def response(self, items: Iterable[object], total: int) -> web.Response:
        """Return the items. Behind `after`, `hasNextPage` says that the page is full: more may follow."""
        page, pagination = list(items), self.pagination(total)
        if self.after is not None:
            pagination |= {"hasNextPage": len(page) == self.limit, "hasPreviousPage": True}
        return success(page, extra={"pagination": pagination})


Parsed = TypeVar("Parsed", bound=Query)


class CursorQuery(PageQuery):
    """The parameters of a list with cursors. A page behind a cursor costs the same at every depth."""

    cursor: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,200}$")

    def cursor_response(self, items: Iterable[object], total: int | None, next_cursor: str | None) -> web.Response:
        """Return this page. Behind a cursor nothing is counted, so `total` is None."""
        if total is None:
            has_next = next_cursor is not None
            pagination: dict[str, object] = {
                "itemsPerPage": self.limit,
                "hasNextPage": has_next,
                "hasPreviousPage": True,
            }
        else:
            pagination = self.pagination(total)
        return success(list(items), extra={"pagination": {**pagination, "nextCursor": next_cursor}})


def encode_cursor(sort: str, order: str, value: datetime, row_id: int) -> str:
    """Return the cursor behind a row of a list: opaque for clients, and valid for this sort and order only."""
    text = f"{sort} {order} {utc_text(value)} {row_id}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, sort: str, order: str) -> tuple[datetime, int]:
    """Return value and row id of the row that a page begins behind. Raises `ValidationFailed`."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        found_sort, found_order, at, row_id = text.split(" ")
        if (found_sort, found_order) == (sort, order) and _ROW_ID.fullmatch(row_id):
            value = datetime.fromisoformat(f"{at}+00:00")
            if _EPOCH <= value < _END:
                return value, int(row_id)
    except ValueError:
        pass
    raise _invalid({"cursor": "must be the nextCursor of a page with the same sort and order"})


def parse_query(kind: type[Parsed], request: web.Request) -> Parsed:
    """Parse the query parameters as `kind`. Raises `ValidationFailed` with an entry for each wrong parameter."""
    return parse_parameters(kind, request.query)


def parse_parameters(kind: type[Parsed], parameters: MultiMapping[str]) -> Parsed:
    """See `parse_query`."""
    repeated = {name: "given more than once" for name in parameters if len(parameters.getall(name)) > 1}
    try:
        parsed = kind.model_validate(dict(parameters))
    except ValidationError as error:
        raise _invalid(validation_details(error) | repeated) from None  # pydantic's error quotes the values
    if repeated:
        raise _invalid(repeated)
    return parsed


def row_id_of(request: web.Request, name: str = "id") -> int:
    """Return a row id in the path. Raises `ValidationFailed` if it is not one."""
    text = request.match_info[name]
    if not _ROW_ID.fullmatch(text):
        raise ValidationFailed("Invalid id.", details={name: "must be a whole number"})
    return int(text)


def validation_details(error: ValidationError, root: str = "") -> dict[str, str]:
    """Return the reasons by field, `root` being the name of the whole. A union gives the reasons of each member."""
    reasons: dict[str, list[str]] = {}
    for entry in error.errors(include_input=False, include_url=False):
        name = str(entry["loc"][0]) if entry["loc"] else root
        reasons.setdefault(name, []).append(entry["msg"].removeprefix("Value error, "))
    return {name: "; or: ".join(texts) for name, texts in reasons.items()}


def _invalid(details: dict[str, str]) -> ValidationFailed:
    return ValidationFailed("Some query parameters are wrong.", details=details)
