"""JSON in and out."""

import asyncio
from typing import Annotated, Final, TypeVar

import orjson
from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from sharegram_simulator.errors import Invalid, TooSlow

WHOLE: Final = "body"
BODY_SECONDS: Final = 30

Model = TypeVar("Model", bound=BaseModel)


def _writable(value: JsonValue) -> JsonValue:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ValueError(str(error)) from None
    return value


Json = Annotated[JsonValue, AfterValidator(_writable)]
"""JSON that can be written again: no integer of more than 64 bits, no text that is not Unicode."""

ExternalId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
"""An id that another party made: 1 to 128 visible ASCII characters."""


class Wire(BaseModel):
    """The base of request bodies: camelCase on the wire, unknown fields rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


def json_answer(data: object, status: int = 200) -> web.Response:
    """`data` as JSON."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


async def read_body(request: web.Request) -> bytes:
    """The whole body; kept by the request, so that every layer may ask for it. Raises `TooSlow`."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {BODY_SECONDS} s.") from None


async def read_json(request: web.Request, model: type[Model]) -> Model:
    """The body as `model`. Raises `Invalid` with a detail for each field."""
    try:
        return model.model_validate_json(await read_body(request) or b"{}")
    except ValidationError as error:
        raise _invalid(error) from None


def read_query(request: web.Request, model: type[Model]) -> Model:
    """The query as `model`. Raises `Invalid` with a detail for each field."""
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> Invalid:
    details = {
        ".".join(str(part) for part in problem["loc"]) or WHOLE: problem["msg"]
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    }
    return Invalid("The request is not valid.", details=details)
