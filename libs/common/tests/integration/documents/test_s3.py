"""The client of S3 where S3 does not answer, refuses, or answers late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from safevideo_common.documents.s3 import DEFAULT_TIMEOUTS, RETRIES, Bucket, S3FileStore, S3Timeouts
from safevideo_common.errors import FilesUnavailable
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.file_stores import MockS3

BUCKET = Bucket("documents", "of/a/test", "", "eu-west-1", "an-access-key", "the-secret-key-of-a-test")
NAME = "0" * 32
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """A service that gives scripted answers, and counts requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.endpoint = ""
        self.end = asyncio.Event()

    async def never(self, _: web.Request) -> web.StreamResponse:
        """Keep the request until the end of the test."""
        await self.end.wait()
        return web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def store(self, timeouts: S3Timeouts = DEFAULT_TIMEOUTS) -> S3FileStore:
        return S3FileStore(replace(BUCKET, endpoint=self.endpoint), timeouts)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with TestServer(app) as server:
        made.endpoint = str(server.make_url("")).rstrip("/")
        yield made
        made.end.set()


def status(code: int) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="<Error><Code>InternalError</Code></Error>")

    return answer


async def document(_: web.Request) -> web.StreamResponse:
    headers = {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 10:00:00 GMT"}
    return web.Response(body=b"a document", headers=headers)


async def calls(store: S3FileStore) -> Sequence[object]:
    work = (
        store.get(NAME),
        store.put(NAME, b"x"),
        store.delete_file(NAME),
        store.find("0"),
        store.read_mark(),
        store.write_mark(NAME),
    )
    return await asyncio.gather(*work, return_exceptions=True)


def assert_unavailable(found: Sequence[object]) -> None:
    assert [type(each) for each in found] == [FilesUnavailable] * 6
    for each in found:
        assert isinstance(each, FilesUnavailable)
        assert (each.code, each.status, each.retry_after) == ("SERVICE_UNAVAILABLE", 503, 5)
        assert not any(secret in each.message for secret in ("http", "documents-", "key"))


async def test_server_error_is_retried_by_the_client_and_by_nobody_else(service: Service) -> None:
    service.answers = [status(503), status(500), document]
    assert await service.store().get(NAME) == b"a document"
    assert service.requests == [f"GET /documents/of/a/test/00/{NAME}"] * 3
    service.answers, service.requests = [status(503)], []
    with pytest.raises(FilesUnavailable):
        await service.store().put(NAME, b"x")
    assert len(service.requests) == 1 + RETRIES


@pytest.mark.parametrize("code", [401, 403, 501])
async def test_refusal_makes_the_store_unavailable(service: Service, code: int) -> None:
    service.answers = [status(code)]
    assert_unavailable(await calls(service.store()))


async def test_unreachable_service_makes_the_store_unavailable() -> None:
    store = S3FileStore(replace(BUCKET, endpoint=f"http://127.0.0.1:{free_port()}"))
    assert_unavailable(await calls(store))


async def test_service_without_an_answer_ends_each_call_by_its_timeout(service: Service) -> None:
    service.answers = [service.never]
    store = service.store(S3Timeouts(attempt=60, call=0.1))
    assert_unavailable(await asyncio.wait_for(calls(store), 30))
    one_attempt = service.store(S3Timeouts(attempt=0.1, call=60))
    with pytest.raises(FilesUnavailable):
        await asyncio.wait_for(one_attempt.put(NAME, b"x"), 30)


async def test_missing_bucket_is_no_missing_file(mock_s3: MockS3) -> None:
    assert_unavailable(await calls(S3FileStore(mock_s3.missing_bucket())))


async def test_inventory_reads_page_after_page_and_leaves_foreign_objects_alone(mock_s3: MockS3) -> None:
    bucket = mock_s3.bucket()
    store = S3FileStore(bucket, page=2)
    names = [f"00{number:030x}" for number in range(5)]
    for name in names:
        await store.put(name, b"x")
    for key in ("of/a/test/00/notes.txt", f"of/a/test/01/{NAME}", f"of/another/00/{'0' * 31}a", "of/a/test/0"):
        mock_s3.put(bucket, key)
    assert sorted(await store.find("0")) == names


async def test_no_key_is_shown(mock_s3: MockS3) -> None:
    bucket = mock_s3.bucket()
    assert "secret" not in repr(bucket)
    assert "secret" not in repr(S3FileStore(bucket))
