"""Answers of Sharegram's API with one value at an end of its type, and the client that reads them without a socket."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, cast

from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.clock import utc_now
from safevideo_common.sharegram import operations
from safevideo_common.sharegram.client import DocumentFile, SharegramClient
from safevideo_common.sharegram.errors import CallError
from safevideo_common.sharegram.http import ResponseReader, SigningTransport
from safevideo_common.sharegram.layers import CredentialsGate
from safevideo_common.sharegram.operations import Operation, OutgoingCall, PerformerRecord, SharegramCaller
from safevideo_common.sharegram.transport import WireResponse
from safevideo_testkit.fuzz.ends import End, ends_of

PROFILE: Final[Mapping[str, object]] = {
    "username": "ada",
    "displayName": "Ada",
    "email": "ada@example.com",
    "profileImage": "https://example.com/ada.png",
    "bio": "A life.",
    "verified": True,
}
RECORD: Final[Mapping[str, object]] = {
    "performerId": "sg_1",
    "profile": PROFILE,
    "status": "active",
    "version": 3,
    "updatedAt": "2026-11-24T12:00:00Z",
}
_ANSWERS: Final[Mapping[Operation, Mapping[str, object]]] = {
    operations.HEALTH: {"status": "ok"},
    operations.UPLOAD_DOCUMENT: {"documentId": "doc_1", "status": "stored"},
    operations.START_VERIFICATION: {"verificationId": "ver_1", "status": "pending"},
    operations.SHOW_VERIFICATION: {
        "verificationId": "ver_1",
        "performerId": "sg_1",
        "status": "completed",
        "result": {"status": "passed", "riskScore": 93.5, "checks": {"face": "match"}},
        "updatedAt": "2026-11-24T12:00:00Z",
    },
    operations.MATCH_FACES: {"performerId": "sg_1", "match": True, "score": 97.5},
    operations.SHOW_RISK_SCORE: {"performerId": "sg_1", "riskScore": 71.5},
    operations.LIST_PERFORMERS: {"performers": [RECORD], "nextCursor": "page-2"},
    operations.SHOW_PERFORMER: RECORD,
    operations.REGISTER_WEBHOOK: {"webhookId": "wh_1", "url": "https://safevideo.example.com/x", "events": ["a.b"]},
}
_CALLS: Final[Mapping[Operation, Callable[[SharegramClient, SharegramCaller], Awaitable[object]]]] = {
    operations.HEALTH: lambda client, caller: client.health(caller),
    operations.UPLOAD_DOCUMENT: lambda client, caller: client.upload_document(
        caller, work="w", document=DocumentFile("idFront", "image/jpeg", b"x"), form={}
    ),
    operations.START_VERIFICATION: lambda client, caller: client.start_verification(
        caller, work="w", performer_id="sg_1", fields={}
    ),
    operations.SHOW_VERIFICATION: lambda client, caller: client.verification(caller, "ver_1"),
    operations.MATCH_FACES: lambda client, caller: client.match_faces(caller, work="w", performer_id="sg_1", fields={}),
    operations.SHOW_RISK_SCORE: lambda client, caller: client.risk_score(caller, "sg_1"),
    operations.LIST_PERFORMERS: lambda client, caller: client.performers(caller),
    operations.SHOW_PERFORMER: lambda client, caller: client.performer(caller, "sg_1"),
    operations.REGISTER_WEBHOOK: lambda client, caller: client.register_webhook(caller, url="https://x"),
}


class AnswerReader:
    """A client of Sharegram that gets the answers which a test gives it."""

    def __init__(self) -> None:
        self._answer = b""
        calls = ResponseReader(cast("SigningTransport", self), utc_now)
        self._client = SharegramClient(calls, calls, CredentialsGate(calls), self)

    async def send(self, _call: OutgoingCall) -> WireResponse:
        return WireResponse(200, "OK", CIMultiDictProxy(CIMultiDict[str]()), self._answer)

    async def reserve(self, _work: str, _content: bytes) -> str:
        return "key"

    async def read(self, operation: Operation, answer: bytes) -> Any:
        """Return what the client makes of an answer, or the error of the client. Raises every other exception."""
        self._answer = answer
        try:
            return await _CALLS[operation](self._client, SharegramCaller.job("req_1"))
        except CallError as error:
            return error


def answer_ends(operation: Operation) -> Iterator[End]:
    """Yield the answers to a call, each with one value at an end."""
    example = _ANSWERS[operation]
    yield from ends_of(operation.response, example)
    if operation is operations.LIST_PERFORMERS:
        for end in ends_of(PerformerRecord, RECORD):
            yield End(f"performers[].{end.path}", b'{"performers":[%b],"nextCursor":null}' % end.document)
