"""Verification events at the ends of every type: each is refused with a code, or decided and told of.

`make fuzz` sends the same through webhook-ingest and a database.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Final

from kyc_worker.verifications.handler import KycRequestStates, VerificationEvent, VerificationHandler
from kyc_worker.verifications.resync_job import event_of
from safevideo_common.domain.kyc import KycRequest, KycRules, KycStatus
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.sharegram.errors import CallError
from safevideo_common.sharegram.operations import SHOW_VERIFICATION
from safevideo_testkit.fuzz.answer_ends import AnswerReader, answer_ends
from safevideo_testkit.fuzz.webhook_ends import delivered, verification_ends

AT: Final = datetime(2026, 11, 24, tzinfo=UTC)
REQUEST: Final = KycRequest(1, "sg_1", "ver_1", KycStatus.IN_PROGRESS)
DOCUMENT_ENDS: Final = (None, date.min, date.max)
VALIDITIES: Final = (timedelta(days=31), timedelta(days=36_500))
CODES: Final = {"BODY_INVALID", "PERFORMER_MISMATCH", "CONTRADICTORY_RESULT"}


def test_every_verification_at_an_end_of_a_type_is_decided_or_refused_with_a_code() -> None:
    seen = set[Status]()
    for end in verification_ends():
        delivery = delivered(end.document)
        if delivery is None:
            continue
        for document_ends, validity in product(DOCUMENT_ENDS, VALIDITIES):
            handler = VerificationHandler(lambda: AT, KycRules(0, validity))
            event = handler.parse(delivery)
            if isinstance(event, Outcome):
                assert event.status is not Status.DEAD or event.code in CODES, (end.path, event)
                seen.add(event.status)
                break
            states = KycRequestStates.of({"ver_1": replace(REQUEST, document_expires_on=document_ends)})
            outcome = handler.decide(states, event)
            assert outcome.status is not Status.DEAD or outcome.code in CODES, (end.path, outcome)
            assert len(handler.changes(states)) == (outcome.status is Status.APPLIED), end.path
            handler.diff(states)
            seen.add(outcome.status)
    assert seen == {Status.APPLIED, Status.DEAD, Status.IGNORED, Status.WAITING}


async def test_every_fetched_result_at_an_end_of_a_type_is_decided_or_refused_with_a_code() -> None:
    reader, seen = AnswerReader(), set[Status]()
    for end in answer_ends(SHOW_VERIFICATION):
        state = await reader.read(SHOW_VERIFICATION, end.document)
        if isinstance(state, CallError) or state.result is None:
            continue
        event = event_of(state, "req_1")
        if isinstance(event, str):
            continue
        for document_ends, validity in product(DOCUMENT_ENDS, VALIDITIES):
            handler = VerificationHandler(lambda: AT, KycRules(0, validity))
            states = KycRequestStates.of({"ver_1": replace(REQUEST, document_expires_on=document_ends)})
            outcome = handler.decide(states, event)
            assert outcome.status is not Status.DEAD or outcome.code in CODES, (end.path, outcome)
            assert len(handler.changes(states)) == (outcome.status is Status.APPLIED), end.path
            seen.add(outcome.status)
    assert seen == {Status.APPLIED, Status.DEAD, Status.WAITING}


async def test_a_fetched_result_is_stored_as_the_webhook_of_it() -> None:
    checks = b'{"%b":"match","score":1.5,"half":"\\ud83c","deep":%b}' % (b"n" * 300, b"[" * 20 + b"]" * 20)
    result = b'"result":{"status":"passed","riskScore":93.5,"checks":%b}' % checks
    ids = b'"verificationId":"ver_1","performerId":"sg_1"'
    answer = b'{%b,"status":"completed",%b,"updatedAt":"2026-11-24T12:00:00Z"}' % (ids, result)
    head = b'"event":"kyc.verification.completed","timestamp":"2026-11-24T12:00:00Z"'
    webhook = b'{%b,"data":{%b,%b}}' % (head, ids, result)
    fetched = event_of(await AnswerReader().read(SHOW_VERIFICATION, answer), "req_1")
    delivery = delivered(webhook)
    assert delivery is not None
    sent = VerificationHandler(lambda: AT, KycRules()).parse(delivery)
    assert isinstance(fetched, VerificationEvent)
    assert isinstance(sent, VerificationEvent)
    assert fetched.result.checks == sent.result.checks
