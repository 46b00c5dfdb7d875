"""The declaration of an endpoint. Its guard, its rate limit, its documentation and its tests derive from it."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Literal, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.http.body import Body
from gateway.http.query import Query
from gateway.http.rate_limits import RateLimitClass
from safevideo_common.auth.api_keys import Role
from safevideo_common.errors import SafeVideoError

PUBLIC: Final = None
"""The roles of an endpoint that needs no credentials."""
ANY_ROLE: Final = frozenset(Role)
MODERATORS: Final = frozenset({Role.MODERATOR, Role.ADMIN})
READERS: Final = frozenset({Role.AUDITOR, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})

ADMIN_PATH: Final = "/api/v1/admin"

RowId = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]
VisibleAscii = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,128}$")]


class Shape(StrEnum):
    """The form of a successful response around its document."""

    ONE = "one"
    LIST = "list"
    PAGE = "page"
    """A list with the member `pagination`."""
    BARE = "bare"
    """The document itself, without `success` and `data`."""
    HTML = "html"
    FILE = "file"
    """The bytes of a document, to be saved."""
    REDIRECT = "redirect"
    """No body: the header `Location` says where to go."""


@dataclass(frozen=True, slots=True)
class Returns:
    """A successful response: its document, which is a `TypedDict`, and an example of it. A page has neither."""

    document: type | None
    example: Mapping[str, object] | None
    status: int = 200
    shape: Shape = Shape.ONE
    other_statuses: Collection[int] = ()
    """Statuses with the same document."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation: one method of one path. The docstring of `handler` is its description."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    roles: Collection[Role] | None
    """The roles that may call it, or `PUBLIC`."""
    returns: Returns
    errors: Sequence[type[SafeVideoError]] = ()
    """Its own errors. Those that follow from the declaration are added by the documentation."""
    rate_limit: RateLimitClass | None = RateLimitClass.GENERAL
    """The limit that its requests count for; None for what must always be answered."""
    takes_idempotency_key: bool = False
    """Whether a repetition with the same key has no further effect. Its handler keeps its response under `CLAIM`."""
    query: type[Query] | None = None
    body: type[Body] | None = None
    body_example: Mapping[str, object] = field(default_factory=dict)
    form: Mapping[str, object] | None = None
    """The JSON Schema of its form, if it takes one."""
    form_type: str = "multipart/form-data"
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that it reads, with their descriptions."""
    takes_provider_token: bool = False
    """Whether `Authorization` has a token of the provider instead of one of ours."""
    path_types: Mapping[str, object] = field(default_factory=dict)
    """The type of each parameter of the path, which is a `RowId` by default."""

    @property
    def operation_id(self) -> str:
        """Return the name of the operation, such as `events.list`."""
        owner, _, name = self.handler.__qualname__.rpartition(".")
        return f"{_kebab(owner.removesuffix('Api'))}.{name}"

    @property
    def path_parameters(self) -> Sequence[str]:
        """Return the names of the parameters in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    def route(self, handler: Handler) -> web.RouteDef:
        """Return the route that `handler` serves."""
        return web.get(self.path, handler) if self.method == "GET" else web.route(self.method, self.path, handler)


class Api(Protocol):
    """The endpoints of one feature."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        ...


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
