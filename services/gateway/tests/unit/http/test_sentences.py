"""Reasons and notes that operators type: others read them in a terminal, so each body refuses what one would obey."""

import msgspec
import pytest
from pydantic import BaseModel

from gateway.events.api import CloseBody
from gateway.http.body import Body, parse_document
from gateway.jobs.api import CancelBody
from gateway.kyc.api import ApprovalBody, RejectionBody
from gateway.performers.decisions_api import PerformerApprovalBody, PerformerRejectionBody, PerformerStatusBody
from gateway.performers.sync_api import SyncCancelBody
from gateway.protections.api import BreakerBody, FallbackBody
from gateway.users.holds import HoldBody
from safevideo_common.domain.sentences import is_sentence
from safevideo_common.errors import ValidationFailed

GOOD = ("case 2026-114", "本人確認\u3000済み", "é", "a" * 200)
SEVERAL_LINES = ("first\nsecond", "tab\tbed")
HOSTILE = (
    "\x1b[2J",
    "a\x9b2J",
    "a\u202eb",
    "a\u2066b",
    "a\x7f",
    "a\x00b",
    "a\u2028b",
    "a\u200bb",
    "a\ufeffb",
    "a\x85b",
)
SENTENCES: tuple[tuple[type[Body], dict[str, object]], ...] = (
    (CloseBody, {}),
    (CancelBody, {}),
    (SyncCancelBody, {"jobId": 1}),
    (BreakerBody, {}),
    (FallbackBody, {"provider": "sharegram", "enable": True}),
    (HoldBody, {}),
)
NOTES: tuple[tuple[type[Body], str, dict[str, object]], ...] = (
    (ApprovalBody, "notes", {}),
    (RejectionBody, "notes", {"reason": "other"}),
    (PerformerApprovalBody, "notes", {}),
    (PerformerRejectionBody, "notes", {}),
    (PerformerRejectionBody, "reason", {}),
    (PerformerStatusBody, "reason", {"status": "active"}),
)


def parsed(kind: type[Body], document: dict[str, object]) -> BaseModel:
    return parse_document(kind, msgspec.json.encode(document))


@pytest.mark.parametrize(("kind", "others"), SENTENCES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_reason_is_one_line_that_can_be_shown(kind: type[Body], others: dict[str, object]) -> None:
    for text in GOOD:
        assert parsed(kind, others | {"reason": f" {text} "}).model_dump()["reason"] == text
    for text in (*HOSTILE, *SEVERAL_LINES, "", " ", "\u3000", "a" * 256):
        with pytest.raises(ValidationFailed) as refused:
            parsed(kind, others | {"reason": text})
        assert set(refused.value.details or ()) == {"reason"}


@pytest.mark.parametrize(("kind", "name", "others"), NOTES, ids=lambda each: getattr(each, "__name__", ""))
def test_notes_are_lines_that_can_be_shown(kind: type[Body], name: str, others: dict[str, object]) -> None:
    for text in (*GOOD, *SEVERAL_LINES, "first\r\nsecond"):
        assert parsed(kind, others | {name: text}).model_dump()[name] == text.replace("\r\n", "\n")
    for text in (*HOSTILE, "a" * 2001):
        with pytest.raises(ValidationFailed) as refused:
            parsed(kind, others | {name: text})
        assert set(refused.value.details or ()) == {name}


def test_the_rule_of_the_library_is_that_of_the_bodies() -> None:
    assert all(map(is_sentence, GOOD))
    assert not any(map(is_sentence, (*HOSTILE, *SEVERAL_LINES, "", " ", "a" * 256)))
