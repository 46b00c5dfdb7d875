"""Sharegram's scheme: what holds, and the reason given for each thing that does not."""

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


def verify(given_headers: CIMultiDict[str], body: bytes = BODY) -> WebhookSecret:
    return SharegramScheme().verify(given_headers, body, (NEW, OLD), NOW)


def reason_of(given_headers: CIMultiDict[str], body: bytes = BODY) -> object:
    with pytest.raises(WebhookSignatureInvalid) as refusal:
        verify(given_headers, body)
    return (refusal.value.details or {})["reason"]


def test_a_right_signature_names_the_secret_that_it_was_made_with() -> None:
    assert verify(headers(signed(NEW))) is NEW
    assert verify(headers(signed(OLD))) is OLD


def test_a_missing_header_is_named() -> None:
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
def test_a_header_of_another_form_is_malformed(value: str) -> None:
    assert reason_of(headers(value)) == "signature_malformed"


def test_two_signature_headers_are_malformed_even_if_one_is_right() -> None:
    assert reason_of(headers(signed(), signed())) == "signature_malformed"


def test_another_body_or_another_secret_is_a_mismatch() -> None:
    assert reason_of(headers(signed()), BODY + b" ") == "signature_mismatch"
    assert reason_of(headers(signed(WebhookSecret("theirs", b"somebody-elses-secret")))) == "signature_mismatch"


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_a_timestamp_within_the_window_holds(offset: int) -> None:
    assert verify(headers(signed(), timestamps=[str(int(NOW.timestamp()) + offset)])) is NEW


@pytest.mark.parametrize("offset", [-301, 301])
def test_a_timestamp_outside_of_the_window_is_refused_on_both_sides(offset: int) -> None:
    sent = headers(signed(), timestamps=[str(int(NOW.timestamp()) + offset)])
    assert reason_of(sent) == "timestamp_out_of_tolerance"


@pytest.mark.parametrize("value", ["", "1_763_985_600", " 1763985600", "+1763985600", "NaN", "1e9", "١٢٣", "1" * 13])
def test_a_timestamp_of_anything_but_digits_is_malformed(value: str) -> None:
    assert reason_of(headers(signed(), timestamps=[value])) == "timestamp_malformed"


def test_two_timestamps_are_malformed() -> None:
    now = str(int(NOW.timestamp()))
    assert reason_of(headers(signed(), timestamps=[now, now])) == "timestamp_malformed"


@given(st.text(), st.lists(st.text(), max_size=2), st.binary(max_size=64))
def test_no_header_gets_in_or_breaks_anything(signature: str, timestamps: list[str], body: bytes) -> None:
    assert isinstance(reason_of(headers(signature, timestamps=timestamps), body), str)
