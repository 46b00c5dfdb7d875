"""The choice of the scheme: only the sender can make it."""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import SCHEMES, SignedIdentity, WebhookSecret

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
    with pytest.raises(WebhookSignatureInvalid) as error:
        verify(sent)
    return (error.value.details or {})["reason"]


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_any_accepts_each_scheme_alone(secret: WebhookSecret) -> None:
    assert verify(sharegram(secret)) is secret
    assert verify(standard(secret)) is secret


def test_any_names_both_headers_when_signature_is_missing() -> None:
    with pytest.raises(WebhookSignatureInvalid, match="X-Sharegram-Signature or webhook-signature") as error:
        verify({"webhook-id": "evt_1", "webhook-timestamp": SENT, "X-Sharegram-Timestamp": SENT})
    assert error.value.details == {"reason": "signature_missing"}


def test_any_rejects_request_if_one_of_two_schemes_is_invalid() -> None:
    wrong = WebhookSecret("theirs", b"somebody-elses-secret")
    assert verify(sharegram() | standard()) is NEW
    assert reason_of(sharegram(wrong) | standard()) == "signature_mismatch"
    assert reason_of(sharegram() | standard(wrong)) == "signature_mismatch"
    assert reason_of({"X-Sharegram-Signature": ""} | standard()) == "signature_malformed"
    assert reason_of(sharegram() | {"webhook-signature": ""}) == "signature_malformed"


def test_any_requires_the_same_secret_for_both_schemes() -> None:
    assert reason_of(sharegram(NEW) | standard(OLD)) == "signature_mismatch"
    assert verify(sharegram(OLD) | standard(NEW, OLD)) is OLD


def test_any_rejects_unsigned_id_header_on_standard_delivery() -> None:
    assert reason_of(standard() | {"X-Sharegram-Event-Id": "evt_2"}) == "signature_missing"


def test_standard_scheme_is_not_present_with_id_header_alone() -> None:
    assert verify(sharegram() | {"webhook-id": "evt_1"}) is NEW


def test_identity_is_what_the_signatures_cover() -> None:
    assert ANY.identity(CIMultiDict(standard())) == SignedIdentity("evt_1", is_body_signed_alone=False)
    assert ANY.identity(CIMultiDict(sharegram() | {"webhook-id": "x"})) == SignedIdentity(
        None, is_body_signed_alone=True
    )
    assert ANY.identity(CIMultiDict(sharegram() | standard())) == SignedIdentity("evt_1", is_body_signed_alone=True)


@pytest.mark.parametrize(("chosen", "other"), [("sharegram", standard()), ("standard", sharegram())])
def test_single_scheme_rejects_the_other_one(chosen: str, other: dict[str, str]) -> None:
    scheme = SCHEMES["sharegram"] if chosen == "sharegram" else SCHEMES["standard"]
    with pytest.raises(WebhookSignatureInvalid):
        scheme.verify(CIMultiDict(other), BODY, (NEW, OLD), NOW)


NAMES = ("X-Sharegram-Signature", "X-Sharegram-Timestamp", "X-Sharegram-Event-Id", *standard())
WRONG = ["", "x", "v1,", "sha256=", SENT, "evt_1", "v1," + "A" * 43 + "=", "sha256=" + "0" * 64]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WRONG) | st.text()),
    st.sampled_from(["nothing", "sharegram", "standard"]),
)
def test_any_accepts_no_added_or_changed_headers_unless_all_schemes_are_valid(
    added: dict[str, str], signed: str
) -> None:
    """A request is accepted only if it is valid in every scheme whose headers are present."""
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
