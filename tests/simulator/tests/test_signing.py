from datetime import UTC, datetime
from hashlib import sha256

import pytest

from sharegram_simulator.signing import sign_call, sign_sharegram, sign_standard, standard_key

AT = datetime.fromtimestamp(1_614_265_330, UTC)


def test_the_standard_scheme_agrees_with_the_example_of_its_specification() -> None:
    headers = sign_standard(
        b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", AT, "msg_p5jXN8AQM9LWM0D4loKWxJek"
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_standard_scheme_needs_an_id() -> None:
    with pytest.raises(ValueError, match="event id"):
        sign_standard(b"{}", "secret", AT, None)


def test_a_whsec_secret_that_is_no_base64_is_refused() -> None:
    with pytest.raises(ValueError, match=r"base64"):
        standard_key("whsec_not base64!")


def test_the_sharegram_scheme_signs_the_raw_body_only() -> None:
    # RFC 4231, test case 2.
    headers = sign_sharegram(b"what do ya want for nothing?", "Jefe", AT, "evt_1")
    assert headers == {
        "X-Sharegram-Signature": "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "X-Sharegram-Timestamp": "1614265330",
        "X-Sharegram-Event-Id": "evt_1",
    }


def test_an_event_without_an_id_has_no_id_header() -> None:
    assert "X-Sharegram-Event-Id" not in sign_sharegram(b"{}", "secret", AT)


def test_a_call_is_signed_over_method_path_timestamp_and_body() -> None:
    key, message = b"key".ljust(64, b"\0"), b"POST\n/v1/kyc/verify\n1614265330\n{}"
    inner = sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    expected = sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert sign_call("post", "/v1/kyc/verify", b"{}", "key", AT)["X-Sharegram-Signature"] == expected
