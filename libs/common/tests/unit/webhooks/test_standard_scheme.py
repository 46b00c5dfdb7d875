"""The Standard Webhooks scheme: the example of the specification, and the reason of each rejection."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import StandardScheme, WebhookSecret

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SENT = str(int(NOW.timestamp()))
OLD = WebhookSecret("old", b"whsec_" + b64encode(b"the-old-secret-of-the-provider"))
NEW = WebhookSecret("new", b"the-new-secret-of-the-provider")
BODY = b'{"event":"x"}'


def signature(secret: bytes, event_id: str = "evt_1", timestamp: str = SENT, body: bytes = BODY) -> str:
    """Return the signature, computed as RFC 2104 defines HMAC."""
    key = secret.ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in key) + f"{event_id}.{timestamp}.".encode() + body).digest()
    return "v1," + b64encode(sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()).decode()


BY_NEW = signature(NEW.key)
BY_OLD = signature(b"the-old-secret-of-the-provider")


def headers(signatures: str = BY_NEW, event_id: str = "evt_1", timestamp: str = SENT) -> CIMultiDict[str]:
    return CIMultiDict({"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signatures})


def verify(sent: CIMultiDict[str], body: bytes = BODY) -> WebhookSecret:
    return StandardScheme().verify(sent, body, (NEW, OLD), NOW)


def reason_of(sent: CIMultiDict[str], body: bytes = BODY) -> object:
    with pytest.raises(WebhookSignatureInvalid) as error:
        verify(sent, body)
    return (error.value.details or {})["reason"]


def test_standard_scheme_accepts_example_of_the_specification() -> None:
    secret = WebhookSecret("example", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    sent = headers("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")
    at = datetime.fromtimestamp(1_614_265_330, UTC)
    assert StandardScheme().verify(sent, b'{"test": 2432232314}', (secret,), at) is secret


def test_standard_scheme_returns_the_signing_secret() -> None:
    assert verify(headers(BY_NEW)) is NEW
    assert verify(headers(BY_OLD)) is OLD


def test_standard_scheme_ignores_case_of_header_names() -> None:
    assert verify(CIMultiDict({name.title(): value for name, value in headers().items()})) is NEW


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_standard_scheme_requires_each_header_once(name: str) -> None:
    part = name.removeprefix("webhook-")
    without, doubled = headers(), headers()
    del without[name]
    doubled.add(name, doubled[name])
    assert reason_of(without) == f"{part}_missing"
    assert reason_of(doubled) == f"{part}_malformed"


@pytest.mark.parametrize(
    "signatures",
    [
        f"{BY_OLD} {BY_NEW}",
        f"{signature(b'some other secret')} {BY_NEW}",
        f"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== {BY_NEW}",
        f"v2,~!?,= {BY_NEW}",
        " ".join(["v9,x"] * 15 + [BY_NEW]),
    ],
)
def test_standard_scheme_accepts_one_valid_signature_among_several(signatures: str) -> None:
    assert verify(headers(signatures)) is NEW


def test_standard_scheme_returns_first_secret_of_two_valid_signatures() -> None:
    assert verify(headers(f"{BY_OLD} {BY_NEW}")) is NEW


def test_standard_scheme_rejects_only_unknown_versions_as_unsupported() -> None:
    assert reason_of(headers(BY_NEW.replace("v1,", "v2,"))) == "signature_unsupported"


@pytest.mark.parametrize(
    "signatures",
    [
        "",
        "v1",
        "v1,",
        ",",
        " ",
        BY_NEW.removeprefix("v1,"),
        BY_NEW.removesuffix("="),
        BY_NEW + "=",
        BY_NEW + "\n",
        BY_NEW + " ",
        " " + BY_NEW,
        BY_NEW.replace("v1,", "v1, "),
        BY_NEW.replace("v1,", "V1,"),
        BY_NEW.replace("v1,", "v1=").replace("=", ",", 1) + ",v1",
        f"{BY_NEW}  {BY_NEW}",
        f"{BY_NEW},{BY_NEW}",
        f"{BY_NEW}\t{BY_NEW}",
        f"{BY_NEW} v1,short",
        f"{BY_NEW} nonsense",
        f"{BY_NEW} v2,",
        f"v1,{'é' * 43}=",
        f"v1,{'-_' * 21}A=",
        f"v1,{'A' * 20}\u0661{'A' * 22}=",
        "v1," + "A" * 63 + "=",
        " ".join(["v9,x"] * 16 + [BY_NEW]),
    ],
)
def test_standard_scheme_rejects_malformed_signature(signatures: str) -> None:
    assert reason_of(headers(signatures)) == "signature_malformed"


def test_standard_scheme_rejects_non_canonical_base64() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(BY_NEW[-2]) + 1]  # a lenient decoder drops its low bits
    assert reason_of(headers(BY_NEW[:-2] + last + "=")) == "signature_malformed"
    assert reason_of(headers(f"{BY_NEW[:10]}!{BY_NEW[10:]}")) == "signature_malformed"  # a lenient decoder drops it


@pytest.mark.parametrize("event_id", ["", "a b", "a.b", ".", "é", "a\n", "a\x00", "x" * 129, "\udcff"])
def test_standard_scheme_rejects_malformed_id_even_if_signed(event_id: str) -> None:
    signed = signature(NEW.key, event_id.encode("utf-8", "replace").decode())
    assert reason_of(headers(signed, event_id)) == "id_malformed"


def test_standard_scheme_rejects_id_with_full_stop() -> None:
    signed = signature(NEW.key, f"evt_1.{SENT}", "1", BODY)
    assert reason_of(headers(signed, f"evt_1.{SENT}", "1"), BODY) == "id_malformed"


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_standard_scheme_accepts_timestamp_within_tolerance(offset: int) -> None:
    sent = str(int(NOW.timestamp()) + offset)
    assert verify(headers(signature(NEW.key, timestamp=sent), timestamp=sent)) is NEW


@pytest.mark.parametrize("offset", [-(10**9), -301, 301, 10**9])
def test_standard_scheme_rejects_timestamp_out_of_tolerance(offset: int) -> None:
    sent = str(int(NOW.timestamp()) + offset)
    reason = reason_of(headers(signature(NEW.key, timestamp=sent), timestamp=sent))
    assert reason == "timestamp_out_of_tolerance"


@pytest.mark.parametrize(
    "sent", ["", f"{SENT}.0", f" {SENT}", f"{SENT}\n", f"+{SENT}", "-1", "1_763_985_600", "NaN", "1e9", "١٢٣", "1" * 13]
)
def test_standard_scheme_rejects_malformed_timestamp_even_if_signed(sent: str) -> None:
    assert reason_of(headers(signature(NEW.key, timestamp=sent), timestamp=sent)) == "timestamp_malformed"


def test_standard_signature_covers_id_timestamp_and_body() -> None:
    later = str(int((NOW + timedelta(seconds=1)).timestamp()))
    assert reason_of(headers(event_id="evt_2")) == "signature_mismatch"
    assert reason_of(headers(timestamp=later)) == "signature_mismatch"
    assert reason_of(headers(), BODY + b" ") == "signature_mismatch"


def test_standard_scheme_uses_decoded_whsec_secret() -> None:
    assert reason_of(headers(signature(OLD.key))) == "signature_mismatch"


def test_standard_scheme_rejects_everything_without_secrets() -> None:
    with pytest.raises(WebhookSignatureInvalid):
        StandardScheme().verify(headers(), BODY, (), NOW)


anything = st.text() | st.text(alphabet="v12,=+/Aa .\n\x00é").map(lambda text: "v1," + text)
parts = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("webhook-id", "webhook-timestamp", "webhook-signature"), st.lists(anything, max_size=2))
)


@given(parts, st.binary(max_size=64))
def test_standard_scheme_rejects_any_random_headers(sent: Mapping[str, list[str]], body: bytes) -> None:
    pairs = [(name, value) for name, values in sent.items() for value in values]
    assert isinstance(reason_of(CIMultiDict(pairs), body), str)


ids = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="."), min_size=1, max_size=128)
secrets = st.binary(min_size=1, max_size=64).filter(lambda key: not key.startswith(b"whsec_"))


@given(secrets, ids, st.integers(-300, 300), st.binary(max_size=256), st.data())
def test_standard_scheme_accepts_signed_body_and_rejects_one_changed_bit(
    key: bytes, event_id: str, offset: int, body: bytes, data: st.DataObject
) -> None:
    secret, sent = WebhookSecret("only", key), str(int(NOW.timestamp()) + offset)
    signed = headers(signature(key, event_id, sent, body), event_id, sent)
    assert StandardScheme().verify(signed, body, (secret,), NOW) is secret
    bit = data.draw(st.integers(0, 8 * len(body + b" ") - 1))
    changed = (int.from_bytes(body + b" ") ^ (1 << bit)).to_bytes(len(body) + 1)
    with pytest.raises(WebhookSignatureInvalid):
        StandardScheme().verify(signed, changed, (secret,), NOW)
