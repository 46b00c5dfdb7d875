"""Which scheme applies, and that nobody but the sender chooses."""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import SCHEMES, WebhookSecret

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SENT = str(int(NOW.timestamp()))
OLD = WebhookSecret("old", b"the-old-secret-of-sharegram")
NEW = WebhookSecret("new", b"the-new-secret-of-sharegram")
BODY = b'{"event":"x"}'
ANY = SCHEMES["any"]


def sharegram(secret: WebhookSecret = NEW) -> dict[str, str]:
    return {
        "X-Sharegram-Signature": "sha256=" + hmac.digest(secret.key, BODY, "sha256").hex(),
        "X-Sharegram-Timestamp": SENT,
    }


def standard(*secrets: WebhookSecret) -> dict[str, str]:
    signed = b".".join((b"evt_1", SENT.encode(), BODY))
    digests = [hmac.digest(secret.standard_key, signed, "sha256") for secret in secrets or (NEW,)]
    signatures = " ".join("v1," + b64encode(digest).decode() for digest in digests)
    return {"webhook-id": "evt_1", "webhook-timestamp": SENT, "webhook-signature": signatures}


def verify(sent: Mapping[str, str]) -> WebhookSecret:
    return ANY.verify(CIMultiDict(sent), BODY, (NEW, OLD), NOW)


def reason_of(sent: Mapping[str, str]) -> object:
    with pytest.raises(WebhookSignatureInvalid) as refusal:
        verify(sent)
    return (refusal.value.details or {})["reason"]


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_either_scheme_alone_is_enough(secret: WebhookSecret) -> None:
    assert verify(sharegram(secret)) is secret
    assert verify(standard(secret)) is secret


def test_without_a_signature_both_headers_are_named() -> None:
    with pytest.raises(WebhookSignatureInvalid, match="X-Sharegram-Signature or webhook-signature") as refusal:
        verify({"webhook-id": "evt_1", "webhook-timestamp": SENT, "X-Sharegram-Timestamp": SENT})
    assert refusal.value.details == {"reason": "signature_missing"}


def test_of_two_schemes_both_must_hold() -> None:
    wrong = WebhookSecret("theirs", b"somebody-elses-secret")
    assert verify(sharegram() | standard()) is NEW
    assert reason_of(sharegram(wrong) | standard()) == "signature_mismatch"
    assert reason_of(sharegram() | standard(wrong)) == "signature_mismatch"
    assert reason_of({"X-Sharegram-Signature": ""} | standard()) == "signature_malformed"
    assert reason_of(sharegram() | {"webhook-signature": ""}) == "signature_malformed"


def test_two_schemes_must_hold_under_one_secret() -> None:
    assert reason_of(sharegram(NEW) | standard(OLD)) == "signature_mismatch"
    assert verify(sharegram(OLD) | standard(NEW, OLD)) is OLD


def test_a_delivery_of_the_standard_scheme_cannot_be_renamed_by_an_unsigned_header() -> None:
    assert reason_of(standard() | {"X-Sharegram-Event-Id": "evt_2"}) == "signature_missing"


def test_an_id_header_alone_does_not_claim_the_standard_scheme() -> None:
    assert verify(sharegram() | {"webhook-id": "evt_1"}) is NEW


@pytest.mark.parametrize(("chosen", "other"), [("sharegram", standard()), ("standard", sharegram())])
def test_a_scheme_that_is_not_accepted_counts_for_nothing(chosen: str, other: dict[str, str]) -> None:
    scheme = SCHEMES["sharegram"] if chosen == "sharegram" else SCHEMES["standard"]
    with pytest.raises(WebhookSignatureInvalid):
        scheme.verify(CIMultiDict(other), BODY, (NEW, OLD), NOW)


NAMES = ("X-Sharegram-Signature", "X-Sharegram-Timestamp", "X-Sharegram-Event-Id", *standard())
WRONG = ["", "x", "v1,", "sha256=", SENT, "evt_1", "v1," + "A" * 43 + "=", "sha256=" + "0" * 64]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WRONG) | st.text()),
    st.sampled_from(["nothing", "sharegram", "standard"]),
)
def test_headers_that_are_added_or_changed_open_nothing_that_was_shut(added: dict[str, str], signed: str) -> None:
    """Only a request that still holds in every scheme that it claims is let in."""
    genuine = {"nothing": {}, "sharegram": sharegram(), "standard": standard()}[signed]
    sent = CIMultiDict(genuine | added)
    try:
        assert verify(sent) is NEW
    except WebhookSignatureInvalid:
        return
    assert genuine.items() >= {(name, value) for name, value in sent.items() if name.lower().endswith("signature")}
    if signed == "standard":
        assert sent["webhook-id"] == "evt_1"
        assert "X-Sharegram-Event-Id" not in sent
