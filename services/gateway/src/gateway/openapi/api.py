"""`GET /openapi.json` and `GET /docs`: the API as it is, from the code."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import orjson
from aiohttp import web

from gateway.http.endpoint import PUBLIC, Endpoint, Returns, Shape
from gateway.openapi.document import openapi_document
from gateway.openapi.page import CONTENT_SECURITY_POLICY, html_page


class OpenApiDocument(TypedDict):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: Mapping[str, Any]
    paths: Mapping[str, Any]
    components: Mapping[str, Any]


_EXAMPLE: Final[OpenApiDocument] = {
    "openapi": "3.1.0",
    "info": {"title": "SafeVideo integration", "version": "1.0.0"},
    "paths": {},
    "components": {},
}


class DocumentationApi:
    """The documentation of `endpoints` and of itself."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        document = openapi_document([*endpoints, *self.endpoints()])
        self._json = orjson.dumps(document)
        self._html = html_page(document)

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        document = Returns(OpenApiDocument, _EXAMPLE, shape=Shape.BARE)
        page = Returns(None, None, shape=Shape.HTML)
        return [
            Endpoint("GET", "/openapi.json", self.document, PUBLIC, document),
            Endpoint("GET", "/docs", self.page, PUBLIC, page),
        ]

    async def document(self, _request: web.Request) -> web.Response:
        """Return this description of the API."""
        return web.Response(body=self._json, content_type="application/json")

    async def page(self, _request: web.Request) -> web.Response:
        """Return this description of the API as a page for people."""
        response = web.Response(text=self._html, content_type="text/html")
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response
