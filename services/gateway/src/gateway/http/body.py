"""JSON bodies: parsed once into a model, every wrong or unknown member named, no value ever repeated."""

import asyncio
from typing import Annotated, Final, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway.http.query import StorableTimestamp, reasons
from safevideo_common.errors import RequestTimedOut, ValidationFailed

READ_SECONDS: Final = 10.0


class Body(BaseModel):
    """Members in camelCase and of the very type; what is not declared is an error."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True
    )


BodyTimestamp = Annotated[StorableTimestamp, Field(strict=False)]
"""A time in a body: JSON has none, so it comes as text."""

Parsed = TypeVar("Parsed", bound=Body)


async def parse_body(kind: type[Parsed], request: web.Request) -> Parsed:
    """The request's body as `kind`. Raises `ValidationFailed`, whose details have an entry for each wrong member."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            raw = await request.read()
    except TimeoutError:
        raise RequestTimedOut("The body did not arrive in time.") from None
    try:
        return kind.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError:
        raise ValidationFailed("The body is not JSON.", details={"body": "not JSON"}) from None
    except ValidationError as error:  # its text quotes the values
        raise ValidationFailed("Some members of the body are wrong.", details=reasons(error, "body")) from None


def parse_member(kind: type[Parsed], member: dict[str, object], name: str) -> Parsed:
    """An object inside of a body as `kind`. Raises `ValidationFailed`, whose details name `name.part`."""
    try:
        return kind.model_validate(member)
    except ValidationError as error:
        details = {f"{name}.{part}": reason for part, reason in reasons(error).items()}
        raise ValidationFailed("Some members of the body are wrong.", details=details) from None
