"""Sharegram's scheme: valid signatures, and the reason of each rejection."""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import SharegramScheme, WebhookSecret

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OLD = WebhookSecret("old", b"the-old-secret-of-sharegram")
NEW = WebhookSecret("new", b"the-new-secret-of-sharegram")
BODY = b'{"event":"x"}'


def signed(secret: WebhookSecret = NEW, body: bytes = BODY) -> str:
    return "sha256=" + hmac.new(secret.key, body, hashlib.sha256).hexdigest()


def headers(*signatures: str, timestamps: Iterable[str] = ()) -> CIMultiDict[str]:
    pairs = [("X-Sharegram-Signature", value) for value in signatures]
    return CIMultiDict(pairs + [("X-Sharegram-Timestamp", value) for value in timestamps])


def verify(sent: CIMultiDict[str], body: bytes = BODY) -> WebhookSecret:
    return SharegramScheme().verify(sent, body, (NEW, OLD), NOW)


def reason_of(sent: CIMultiDict[str], body: bytes = BODY) -> object:
    with pytest.raises(WebhookSignatureInvalid) as error:
        verify(sent, body)
    return (error.value.details or {})["reason"]


def test_sharegram_scheme_returns_the_signing_secret() -> None:
    assert verify(headers(signed(NEW))) is NEW
    assert verify(headers(signed(OLD))) is OLD


def test_sharegram_scheme_reports_missing_signature() -> None:
    assert reason_of(headers()) == "signature_missing"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha256=",
        signed().upper(),
        signed().replace("sha256=", "SHA256="),
        "sha256=" + signed().removeprefix("sha256=").upper(),
        signed() + "0",
        signed() + "\n",
        " " + signed(),
        signed()[:-1],
        signed().replace("sha256", "sha1"),
        "sha256=" + "é" * 64,
        "sha256=" + "٣" * 64,
        signed() + "," + signed(),
    ],
)
def test_sharegram_scheme_rejects_malformed_signature(value: str) -> None:
    assert reason_of(headers(value)) == "signature_malformed"


def test_sharegram_scheme_rejects_two_signature_headers() -> None:
    assert reason_of(headers(signed(), signed())) == "signature_malformed"


def test_sharegram_scheme_reports_mismatch_of_body_or_secret() -> None:
    assert reason_of(headers(signed()), BODY + b" ") == "signature_mismatch"
    assert reason_of(headers(signed(WebhookSecret("theirs", b"somebody-elses-secret")))) == "signature_mismatch"


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_sharegram_scheme_accepts_timestamp_within_tolerance(offset: int) -> None:
    assert verify(headers(signed(), timestamps=[str(int(NOW.timestamp()) + offset)])) is NEW


@pytest.mark.parametrize("offset", [-301, 301])
def test_sharegram_scheme_rejects_timestamp_out_of_tolerance(offset: int) -> None:
    sent = headers(signed(), timestamps=[str(int(NOW.timestamp()) + offset)])
    assert reason_of(sent) == "timestamp_out_of_tolerance"


@pytest.mark.parametrize("value", ["", "1_763_985_600", " 1763985600", "+1763985600", "NaN", "1e9", "١٢٣", "1" * 13])
def test_sharegram_scheme_rejects_malformed_timestamp(value: str) -> None:
    assert reason_of(headers(signed(), timestamps=[value])) == "timestamp_malformed"


def test_sharegram_scheme_rejects_two_timestamps() -> None:
    now = str(int(NOW.timestamp()))
    assert reason_of(headers(signed(), timestamps=[now, now])) == "timestamp_malformed"


@given(st.text(), st.lists(st.text(), max_size=2), st.binary(max_size=64))
def test_sharegram_scheme_rejects_any_random_headers(signature: str, timestamps: list[str], body: bytes) -> None:
    assert isinstance(reason_of(headers(signature, timestamps=timestamps), body), str)
