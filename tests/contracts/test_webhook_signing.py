"""What the simulator signs holds here: two implementations that share no code."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.webhooks.signatures import SCHEMES, WebhookSecret
from sharegram_simulator.signing import SCHEMES as SIGNING
from sharegram_simulator.signing import SchemeName

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECRETS = ("a-secret-of-any-text-é", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", SIGNING)
@given(body=st.binary(max_size=256))
def test_a_signature_of_the_simulator_holds_and_one_with_another_secret_does_not(
    name: SchemeName, secret: str, body: bytes
) -> None:
    ours = WebhookSecret("one", secret.encode())
    headers = CIMultiDict(SIGNING[name](body, secret, NOW, "evt_1"))
    assert SCHEMES["any"].verify(headers, body, (ours,), NOW) is ours
    with pytest.raises(WebhookSignatureInvalid):
        SCHEMES["any"].verify(headers, body, (WebhookSecret("other", b"another-secret"),), NOW)
