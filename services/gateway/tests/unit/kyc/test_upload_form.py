"""The form of an upload: any body is read in small steps, and refused with an error of ours or accepted."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gateway.kyc.uploads import UploadForm, read_form
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES, DocumentType, Slot
from safevideo_common.errors import FileRequired, PayloadTooLarge, SafeVideoError, ValidationFailed

BOUNDARY = "a-boundary"
STEP = 16 << 10
"""Bytes that may be parsed before other requests have their turn."""


def part(name: str, content: bytes, *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    return f"--{BOUNDARY}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
VALID = (
    part("documentType", b"passport") + part("idFront", b"\x89PNG\r\n\r\n--a-bound", "Content-Type: image/png") + END
)


class Counted(StreamReader):
    """A body of which all has arrived. It counts the bytes that are left."""

    def __init__(self, content: bytes) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(BaseProtocol(loop), 1 << 30, loop=loop)
        self.feed_data(content)
        self.feed_eof()
        self.left = len(content)

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        self.left -= len(data)
        return data

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        line = await super().readline(max_line_length=max_line_length)
        self.left -= len(line)
        return line


def request_with(content: bytes, boundary: str = BOUNDARY) -> tuple[web.Request, Counted]:
    body = Counted(content)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return make_mocked_request("POST", "/", headers=headers, payload=body), body


HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def read(content: bytes, boundary: str = BOUNDARY) -> UploadForm:
    return await read_form(request_with(content, boundary)[0])


async def test_form_is_read() -> None:
    form = await read(VALID)
    assert (form.document_type, form.slot) == (DocumentType.PASSPORT, Slot.ID_FRONT)
    assert form.content == b"\x89PNG\r\n\r\n--a-bound"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(VALID.replace(b'"idFront"', b'idFront; filename="a;\\"b=\\".png"'), id="name without quotes"),
        pytest.param(VALID.replace(b"Content-Disposition: ", b"content-disposition:"), id="header in small letters"),
        pytest.param(VALID.replace(b"boundary\r\n", b"boundary \t\r\n"), id="padding after the boundary"),
        pytest.param(VALID[:-2], id="no line end after the last boundary"),
        pytest.param(VALID + b"an epilogue", id="an epilogue"),
    ],
)
async def test_forms_of_other_clients_are_read(content: bytes) -> None:
    assert (await read(content)).content == b"\x89PNG\r\n\r\n--a-bound"


async def test_form_that_does_not_begin_with_its_boundary_is_refused_at_once() -> None:
    request, body = request_with(b"\n" * 200_000 + VALID)
    with pytest.raises(ValidationFailed):
        await read_form(request)
    assert body.left >= 200_000 - STEP


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(part("documentType", b"passport") + part("idFront", bytes(4 << 20)) + END, id="a file"),
        pytest.param(part("documentType", b"passport") + part("idFront", b"\r\n" * (2 << 20)) + END, id="line ends"),
        pytest.param(
            part("documentType", b"passport") + part("idFront", b"\r\n--a-" * (600_000)) + END, id="near ends"
        ),
        pytest.param(VALID + b"\n" * (4 << 20), id="an epilogue"),
    ],
)
async def test_other_requests_have_their_turn_after_each_step(content: bytes) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.create_task(take_turns())
    await read(content)
    others.cancel()
    assert turns >= len(content) // STEP - 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (part("documentType", b"passport") + part("idFront", bytes(MAX_DOCUMENT_BYTES + 1)) + END, PayloadTooLarge),
        (part("documentType", b"passport" * 9) + END, PayloadTooLarge),
        (VALID + bytes(MAX_DOCUMENT_BYTES + (64 << 10)), PayloadTooLarge),
        (part("documentType", b"passport") + END, FileRequired),
        (END, ValidationFailed),
        (b"", ValidationFailed),
        (VALID[: -len(END)], ValidationFailed),
        (part("documentType", b"pass\xff\x00port") + part("idFront", b"x") + END, ValidationFailed),
        (part("idFront", b"x") * 2 + END, ValidationFailed),
        (part("idFront", b"x") + part("selfie", b"x") + END, ValidationFailed),
        (VALID.replace(b"boundary\r\n", b"boundary x\r\n"), ValidationFailed),
        (VALID.replace(b"boundary\r\n", b"boundary" + b" " * 1000 + b"\r\n"), ValidationFailed),
        (VALID.replace(b"Content-Type", b"X" * 9000 + b": x\r\nContent-Type"), ValidationFailed),
        (VALID.replace(b"Content-Type", b"X: x\r\n" * 2000 + b"Content-Type"), ValidationFailed),
        (VALID.replace(b"Content-Type:", b"Content-Type"), ValidationFailed),
        (VALID.replace(b'name="idFront"', b'name="idFront'), ValidationFailed),
        (VALID.replace(b'name="idFront"', b'name="a"; name="idFront"'), ValidationFailed),
        (VALID.replace(b'name="idFront"', b"filename=x"), ValidationFailed),
    ],
)
async def test_malformed_form_is_refused(content: bytes, error: type[SafeVideoError]) -> None:
    with pytest.raises(error):
        await read(content)


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ü", '"', '"a', "a b", '"a "', "a; boundary=b", "a, b", "\x00"])
async def test_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(ValidationFailed):
        await read(VALID, boundary)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield damaged forms: truncated, with bytes changed, removed, doubled, moved, or words of the syntax put in."""
    chance = random.Random(seed)
    words = [
        *(b"\r\n", b"\n", b"--", b"--a-boundary", b"\r\n\r\n", b'"', b";", b":", b"\x00", b"\xff\xfe"),
        *(b"name=", b"_charset_", b"filename*=utf-8''%ff", b"filename*=x''y", b"=?utf-8?b?/w==?="),
        *(b"Content-Transfer-Encoding: base64\r\n", b"Content-Encoding: gzip\r\n", b"Content-Length: -1\r\n"),
        b"Content-Type: multipart/mixed; boundary=b\r\n",
    ]
    for _ in range(count):
        form = bytearray(VALID)
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(form) + 1)
            end = min(len(form), start + chance.choice([1, 1, 2, 10, 50]))
            match chance.randrange(5):
                case 0:
                    form[start:] = b""
                case 1:
                    form[start:end] = chance.randbytes(end - start)
                case 2:
                    form[start:end] = b""
                case 3:
                    form[start:start] = form[start:end] * 2
                case _:
                    form[start:start] = chance.choice(words)
        yield bytes(form)


async def test_damaged_forms_are_read_or_refused_with_an_error_of_ours() -> None:
    outcomes = {await outcome(form) for form in mutations(31, 500)}
    assert outcomes == {"read", "400 VALIDATION_ERROR", "413 PAYLOAD_TOO_LARGE"}


async def outcome(form: bytes) -> str:
    try:
        await read(form)
    except SafeVideoError as error:
        return f"{error.status} {error.code}"
    return "read"


async def test_form_that_arrives_in_pieces_is_the_same() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        loop = asyncio.get_running_loop()
        body = StreamReader(BaseProtocol(loop), 1 << 30, loop=loop)
        request = make_mocked_request("POST", "/", headers=HEADERS, payload=body)
        reading = asyncio.create_task(read_form(request))
        rest = VALID
        while rest:
            cut = chance.randint(1, 12)
            body.feed_data(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        body.feed_eof()
        assert (await reading).content == b"\x89PNG\r\n\r\n--a-bound"
