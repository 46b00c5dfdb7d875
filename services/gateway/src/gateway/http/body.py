"""JSON bodies, parsed into a model. Each wrong or undeclared field is named, and no value is repeated."""

import asyncio
from typing import Annotated, Final, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway.http.query import StorableTimestamp, validation_details
from safevideo_common.errors import RequestTimedOut, ValidationFailed

READ_SECONDS: Final = 10.0


class Body(BaseModel):
    """Fields in camelCase and of the exact type; an undeclared field is an error."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True
    )


BodyTimestamp = Annotated[StorableTimestamp, Field(strict=False)]
"""A time in a body. JSON has no type for it, so it is a string."""

Parsed = TypeVar("Parsed", bound=Body)


async def parse_body(kind: type[Parsed], request: web.Request) -> Parsed:
    """Parse the body as `kind`. Raises `ValidationFailed` with an entry for each wrong field, or `RequestTimedOut`."""
    return parse_document(kind, await read_body(request))


def parse_document(kind: type[Parsed], raw: bytes) -> Parsed:
    """Parse the bytes of a body as `kind`. Raises `ValidationFailed` with an entry for each wrong field."""
    try:
        return kind.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError:
        raise ValidationFailed("The body is not JSON.", details={"body": "not JSON"}) from None
    except ValidationError as error:  # its text quotes the values
        raise _invalid(validation_details(error, "body")) from None


async def read_body(request: web.Request) -> bytes:
    """Return the whole body. Raises `RequestTimedOut`, or `PayloadTooLarge` by aiohttp's own error."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except TimeoutError:
        raise RequestTimedOut("The body did not arrive in time.") from None


def parse_field(kind: type[Parsed], value: dict[str, object], name: str) -> Parsed:
    """Parse an object inside a body as `kind`. Raises `ValidationFailed` whose details name `name.field`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _invalid({f"{name}.{field}": text for field, text in validation_details(error).items()}) from None


def _invalid(details: dict[str, str]) -> ValidationFailed:
    return ValidationFailed("Some members of the body are wrong.", details=details)
