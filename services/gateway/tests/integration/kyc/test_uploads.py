"""Uploads over HTTP: what one person sends, and how, keeps no other person from uploading."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from gateway.kyc.upload_limits import MAX_OF_PERSON
from gateway.settings import GatewaySettings
from safevideo_common.database.engine import Database
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


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"\n" * (2 << 20), {}, id="no boundary"),
        pytest.param(BEGIN + FILE, {}, id="truncated"),
        pytest.param(b"", {}, id="empty"),
        pytest.param(BEGIN.replace(b":", b"", 1) + FILE + END, {}, id="a header without a colon"),
        pytest.param(BEGIN.replace(b"form-data", b"\x00\xff=;;"), {}, id="no disposition"),
        pytest.param(BEGIN + FILE.replace(b'"a.png"', b'"a.png') + END, {}, id="an open quotation mark"),
        pytest.param(b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + b"u" * 99, {}, id="charset"),
        pytest.param(BEGIN + FILE.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/a\r\n\r\n"), {}, id="nested"),
        pytest.param(BEGIN + b"--x\r\n" + b"X: x\r\n" * 2000, {}, id="many headers"),
        pytest.param(BEGIN + FILE + bytes(MAX_DOCUMENT_BYTES + (1 << 20)), {}, id="over the limit"),
        pytest.param(BEGIN + FILE + END, {"Content-Type": "multipart/form-data"}, id="no boundary named"),
        pytest.param(BEGIN + FILE + END, {"Content-Type": "multipart/form-data; boundary=\xff"}, id="a wrong boundary"),
        pytest.param(BEGIN + FILE + END, {"Content-Encoding": "gzip"}, id="no gzip"),
        pytest.param(BEGIN + FILE + END, {"Content-Encoding": "deflate"}, id="no deflate"),
        pytest.param(BEGIN + FILE + END, {"Content-Encoding": "br"}, id="no brotli"),
    ],
)  # fmt: skip
async def test_malformed_form_is_refused_with_an_error_of_ours(
    ada: KycClient, body: bytes, headers: dict[str, str]
) -> None:
    answer = await send(ada, await ada.submitted(), body, FORM | headers)
    assert 400 <= answer.status < 500
    assert answer.code in {"VALIDATION_ERROR", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_DOCUMENT"}


async def test_client_that_leaves_leaves_its_place(ada: KycClient) -> None:
    request_id = await ada.submitted()
    for _ in range(MAX_OF_PERSON + 1):

        async def body() -> AsyncIterator[bytes]:
            yield BEGIN
            raise ConnectionAbortedError

        with pytest.raises((ClientError, ConnectionAbortedError)):
            await send(ada, request_id, body())
    assert (await ada.upload(request_id)).status == 201
