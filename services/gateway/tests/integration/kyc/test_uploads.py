"""Uploads over HTTP: what one person sends, and how, keeps no other person from uploading."""

import asyncio
import io
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pikepdf
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from sqlalchemy import Engine, event, func, select

from gateway.kyc.document_limits import MAX_OF_PERSON
from gateway.settings import GatewaySettings
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import audit_log
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES
from safevideo_common.tasks import cancel_and_wait
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api
from safevideo_testkit.kyc import KycClient, kyc_settings, picture, sign_in

Performer = Callable[[str], Awaitable[KycClient]]
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
BEGIN = b'--x\r\nContent-Disposition: form-data; name="documentType"\r\n\r\npassport\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="idFront"; filename="a.png"\r\n\r\n'
END = b"\r\n--x--\r\n"


async def send(client: KycClient, request_id: int, body: object, headers: dict[str, str] = FORM) -> Answer:
    url = f"{client.site.base_url}/api/v1/kyc/{request_id}/documents"
    body = io.BytesIO(body) if isinstance(body, bytes) else body
    async with client.site.session.post(url, headers=client.headers | headers, data=body) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


class SlowUploads:
    """Uploads that have begun and do not end before `finish`."""

    def __init__(self, begin: bytes = BEGIN + FILE) -> None:
        self._begin = begin
        self._finish = asyncio.Event()
        self.answers: list[asyncio.Task[Answer]] = []

    def start(self, client: KycClient, request_id: int, count: int) -> None:
        self.answers += [asyncio.create_task(send(client, request_id, self._body())) for _ in range(count)]

    async def _body(self) -> AsyncIterator[bytes]:
        yield self._begin
        await self._finish.wait()
        yield picture() + END

    async def finish(self) -> list[int]:
        """Return the statuses of all."""
        self._finish.set()
        return sorted([each.status for each in await asyncio.gather(*self.answers)])


@pytest.fixture
async def bob(performer: Performer) -> KycClient:
    return await performer("sg_bob")


@pytest.fixture
async def own_session(site: Api) -> AsyncIterator[Api]:
    """The site through connections without a bound on their number."""
    async with ClientSession(timeout=ClientTimeout(60)) as session:
        yield Api(site.base_url, session)


async def test_slow_uploads_of_one_person_keep_nobody_else_waiting(
    ada: KycClient, bob: KycClient, own_session: Api
) -> None:
    slow = SlowUploads()
    slow.start(KycClient(own_session, ada.headers), await ada.submitted(), 30)

    async def refused() -> bool:
        return sum(each.done() for each in slow.answers) == 30 - MAX_OF_PERSON

    await eventually(refused)
    assert (await bob.upload(await bob.submitted())).status == 201
    statuses = await slow.finish()
    assert statuses == [201] * MAX_OF_PERSON + [429] * (30 - MAX_OF_PERSON)


async def test_slow_uploads_of_many_persons_keep_nobody_else_waiting(
    performer: Performer, bob: KycClient, own_session: Api
) -> None:
    slow = SlowUploads()
    for number in range(25):
        other = await performer(f"sg_{number}")
        slow.start(KycClient(own_session, other.headers), await other.submitted(), 1)
    assert (await bob.upload(await bob.submitted())).status == 201
    for each in slow.answers:
        await cancel_and_wait(each)


async def test_documents_of_one_person_are_taken_one_after_the_other(
    ada: KycClient, bob: KycClient, own_session: Api
) -> None:
    request_id = await ada.submitted()
    slow = SlowUploads()
    slow.start(KycClient(own_session, ada.headers), request_id, 1)
    begun = asyncio.create_task(ada.upload(request_id, "selfie"))
    assert (await bob.upload(await bob.submitted())).status == 201
    assert not begun.done()
    assert await slow.finish() == [201]
    assert (await begun).status == 201


async def test_uploads_have_a_rate_limit_of_their_own(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]], settings: GatewaySettings,
    upload_dir: Path, database: Database,
) -> None:  # fmt: skip
    limited = kyc_settings(upload_dir) | {"rate_limit_upload": "2/86400"}
    async with start(GatewaySettings.model_validate(settings.model_dump() | limited)) as site:
        ada = await sign_in(site, database, settings.redis_url.get_secret_value())
        request_id = await ada.submitted()
        answers = [await ada.upload(request_id) for _ in range(3)]
        assert [each.status for each in answers] == [201, 201, 429]
        assert answers[-1].code == "RATE_LIMITED"
        assert await ada.status(request_id) == "pending"


MALFORMED: dict[str, tuple[bytes, dict[str, str]]] = {
    "no boundary": (b"\n" * (2 << 20), {}),
    "truncated": (BEGIN + FILE, {}),
    "empty": (b"", {}),
    "a header without a colon": (BEGIN.replace(b":", b"", 1) + FILE + END, {}),
    "no disposition": (BEGIN.replace(b"form-data", b"\x00\xff=;;"), {}),
    "an open quotation mark": (BEGIN + FILE.replace(b'"a.png"', b'"a.png') + END, {}),
    "a charset": (b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"u" * 99, {}),
    "nested": (BEGIN + FILE.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/mixed\r\n\r\n"), {}),
    "many headers": (BEGIN + b"--x\r\n" + b"X: x\r\n" * 2000, {}),
    "over the limit": (BEGIN + FILE + bytes(MAX_DOCUMENT_BYTES + (1 << 20)), {}),
    "no boundary named": (BEGIN + FILE + END, {"Content-Type": "multipart/form-data"}),
    "a wrong boundary": (BEGIN + FILE + END, {"Content-Type": "multipart/form-data; boundary=\xff"}),
}


async def test_malformed_forms_are_refused_with_an_error_of_ours(ada: KycClient) -> None:
    request_id = await ada.submitted()
    outcomes = {}
    for name, (body, headers) in MALFORMED.items():
        answer = await send(ada, request_id, body, FORM | headers)
        outcomes[name] = f"{answer.status} {answer.code}"
    for encoding in ("gzip", "deflate", "br"):
        outcomes[encoding] = await send_as_if(encoding, ada, request_id)
    others = {"over the limit": "413 PAYLOAD_TOO_LARGE"} | dict.fromkeys(("gzip", "deflate", "br"), "400")
    assert outcomes == dict.fromkeys(MALFORMED, "400 VALIDATION_ERROR") | others


async def send_as_if(encoding: str, client: KycClient, request_id: int) -> str:
    """Send a form that has not the encoding that its header names, and return the status."""
    body = BEGIN + FILE + END
    headers = client.headers | FORM | {"Content-Encoding": encoding, "Content-Length": str(len(body)), "Host": "x"}
    lines = [
        f"POST /api/v1/kyc/{request_id}/documents HTTP/1.1",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    host, port = client.site.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    status = (await reader.readline()).split()[1].decode()
    writer.close()
    await writer.wait_closed()
    return status


class Reader:
    """A client that asks for a document and reads nothing of the answer."""

    def __init__(self, client: KycClient, path: str) -> None:
        self._address = client.site.base_url.removeprefix("http://").split(":")
        lines = [
            f"GET /api/v1/kyc/{path} HTTP/1.1",
            "Host: x",
            *(f"{name}: {text}" for name, text in client.headers.items()),
        ]
        self._head = "\r\n".join([*lines, "", ""]).encode()

    async def __aenter__(self) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (self._address[0], int(self._address[1])))
        await asyncio.get_running_loop().sock_sendall(connection, self._head)
        self._connection = connection

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()


async def test_documents_that_one_person_does_not_read_are_in_memory_once_and_keep_nobody_waiting(
    ada: KycClient, bob: KycClient, database: Database
) -> None:
    paths = []
    for client in (ada, bob):
        request_id = await client.submitted()
        answer = await client.upload(request_id, content=large_pdf())
        assert answer.status == 201
        paths.append(f"{request_id}/documents/{answer.json['data']['documentId']}")

    async def readings() -> int:
        async with database.read_connection() as reading:
            query = select(func.count()).where(audit_log.c.action == "kyc.document_read")
            return await reading.scalar(query) or 0

    async def has_begun() -> bool:
        return await readings() == 1

    async with Reader(ada, paths[0]), Reader(ada, paths[0]), Reader(ada, paths[0]):
        await eventually(has_begun)
        for number in range(3):
            assert len((await bob.get(paths[1])).body) > 8 << 20
            assert await readings() == 2 + number
    assert len((await ada.get(paths[0])).body) > 8 << 20


def large_pdf() -> bytes:
    """Return a PDF that cannot be compressed."""
    document = pikepdf.new()
    document.add_blank_page().obj.Contents = document.make_stream(random.Random(31).randbytes(9 << 20))
    output = io.BytesIO()
    document.save(output)
    return output.getvalue()


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Count the statements about people and their requests, but not those of background tasks."""
    found: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "kyc_" in statement or "users" in statement or "user_identities" in statement:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", count)


async def test_upload_costs_no_more_statements_than_it_always_did(ada: KycClient) -> None:
    request_id = await ada.submitted()
    await ada.upload(request_id)  # the role is cached from now on
    with counted_statements() as statements:
        assert (await ada.upload(request_id, "selfie")).status == 201
    assert 1 <= len(statements) <= 6, statements


async def test_client_that_leaves_leaves_its_place(ada: KycClient) -> None:
    request_id = await ada.submitted()
    for _ in range(MAX_OF_PERSON + 1):

        async def body() -> AsyncIterator[bytes]:
            yield BEGIN
            raise ConnectionAbortedError

        with pytest.raises((ClientError, ConnectionAbortedError)):
            await send(ada, request_id, body())
    assert (await ada.upload(request_id)).status == 201
