from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.signing import sign_call
from sharegram_simulator.testing import PartnerCaller


def signed(path: str = "/v1/performers", key: str = "a secret key", seconds: int = 0) -> dict[str, str | None]:
    """A signature that says to be of so many seconds from now."""
    return {**sign_call("GET", path, b"", key, datetime.now(UTC) + timedelta(seconds=seconds))}


async def test_a_well_signed_call_is_answered_and_recorded_as_such(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    named: dict[str, str | None] = {"X-Request-Id": "req-1", "X-Sharegram-Integration-ID": "safevideo"}
    answer = await partner.call("GET", "/v1/performers?limit=5", headers=named)
    assert (answer.status, answer.headers["X-Request-Id"]) == (200, "req-1")
    [call] = (await simulator.state())["calls"]
    assert (call["path"], call["status"], call["signatureOk"]) == ("/v1/performers", 200, True)
    assert (call["requestId"], call["integrationId"], call["idempotencyKey"]) == ("req-1", "safevideo", None)


@pytest.mark.parametrize(
    ("reason", "headers"),
    [
        ("api_key", lambda: {"X-Sharegram-API-Key": "another"}),
        ("api_key", lambda: {"X-Sharegram-API-Key": None}),
        ("signature", lambda: {"X-Sharegram-Signature": None}),
        ("signature", lambda: {"X-Sharegram-Signature": "ähnlich"}),
        ("signature", lambda: signed(key="another key")),
        ("signature", lambda: signed(path="/v1/health")),
        ("signature", lambda: {"X-Sharegram-Signature": (signed()["X-Sharegram-Signature"] or "").upper()}),
        ("timestamp_malformed", lambda: {"X-Sharegram-Timestamp": None}),
        ("timestamp_malformed", lambda: {"X-Sharegram-Timestamp": "1_700_000_000"}),
        ("timestamp_out_of_tolerance", lambda: signed(seconds=-310)),
        ("timestamp_out_of_tolerance", lambda: signed(seconds=330)),
    ],
)
async def test_a_call_that_is_not_proven_to_be_ours_is_refused(
    simulator: SimulatorClient,
    partner: PartnerCaller,
    reason: str,
    headers: Callable[[], dict[str, str | None]],
) -> None:
    answer = await partner.call("GET", "/v1/performers", headers=headers())
    assert (answer.status, answer.json["error"]["code"]) == (401, "UNAUTHORIZED")
    assert answer.json["error"]["details"] == {"reason": reason}
    [call] = (await simulator.state())["calls"]
    assert (call["status"], call["signatureOk"]) == (401, False)


async def test_a_body_that_was_changed_on_the_way_is_refused(partner: PartnerCaller) -> None:
    other = sign_call("POST", "/v1/kyc/verify", b'{"performerId": "sg_2"}', "a secret key", datetime.now(UTC))
    answer = await partner.call("POST", "/v1/kyc/verify", b'{"performerId": "sg_1"}', headers={**other})
    assert answer.json["error"]["details"] == {"reason": "signature"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_health_needs_no_signature(simulator: SimulatorClient, method: str) -> None:
    assert (await simulator.request(method, "/v1/health")).status == 200


async def test_an_unknown_path_is_not_found_but_only_for_the_integration(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    assert (await simulator.request("GET", "/v1/nothing")).status == 401
    answer = await partner.call("GET", "/v1/nothing")
    assert (answer.status, answer.json["error"]["code"]) == (404, "NOT_FOUND")
