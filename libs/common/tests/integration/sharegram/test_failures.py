"""Each way in which Sharegram fails: the class, the words that operators search for, and what the breaker hears."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from safevideo_common.errors import CircuitBreakerOpen, FallbackActive, IntegrationNotConfigured, SafeVideoError
from safevideo_common.sharegram.client import CallProtections, SharegramClient
from safevideo_common.sharegram.errors import (
    CallError,
    CredentialsRejected,
    FailureReason,
    InvalidResponse,
    RetryLater,
    SharegramUnavailable,
)
from safevideo_common.sharegram.http import parse_retry_after
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import eventually
from sharegram_simulator.certificates import CertificateKind
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.serving import serving
from sharegram_simulator.settings import SimulatorSettings

Open = Callable[..., AbstractAsyncContextManager[SharegramClient]]

PLANTED = ("planted-api-key-0123456789", "planted-secret-key-0123456789", "a-value-of-sharegram", "elsewhere.invalid")
"""The keys of the client, and what the simulator's odd answers contain."""


@dataclass
class BreakerProbe:
    """A closed breaker that notes what it hears."""

    heard: list[str] = field(default_factory=list)
    acquired: int = 0
    is_open: bool = False

    async def acquire(self, seconds: float) -> "BreakerProbe":
        if self.is_open:
            raise CircuitBreakerOpen("open", retry_after=300)
        self.acquired += 1
        return self

    def succeed(self) -> None:
        self.heard.append("success")

    def fail(self) -> None:
        self.heard.append("failure")

    def release(self) -> None:
        self.heard.append("none")


@dataclass
class FallbackOn:
    end: datetime

    def until(self) -> datetime:
        return self.end


@dataclass
class BudgetProbe:
    waits: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    async def take(self) -> float:
        return self.waits.pop() if self.waits else 0.0

    def hold(self, seconds: float) -> None:
        self.held.append(seconds)


LONG = FallbackOn(datetime(2100, 1, 1, tzinfo=UTC))


def logged(logs: Path) -> list[str]:
    return [path.read_text() for path in logs.glob("*.log")]


def assert_no_planted_value(texts: Sequence[str], port: str) -> None:
    assert not [planted for planted in (*PLANTED, port) for text in texts if planted in text]


ONCE = {"sharegram_max_retries": 0}

FAULTS: list[tuple[dict[str, object], type[CallError], FailureReason, str, str]] = [
    ({"mode": "down"}, SharegramUnavailable, FailureReason.RESET, "ECONNRESET", "failure"),
    ({"mode": "errors"}, SharegramUnavailable, FailureReason.SERVER_ERROR, "500 Internal Server Error", "failure"),
    (
        {"mode": "errors", "status": 503},
        SharegramUnavailable,
        FailureReason.UNAVAILABLE,
        "503 Service Unavailable",
        "failure",
    ),
    ({"mode": "errors", "status": 504}, SharegramUnavailable, FailureReason.UNAVAILABLE, "504 Gateway", "failure"),
    (
        {"mode": "rate_limited", "retryAfter": 2},
        SharegramUnavailable,
        FailureReason.RATE_LIMITED,
        "429 Too Many Requests",
        "failure",
    ),
    ({"mode": "unauthorized"}, CredentialsRejected, FailureReason.CREDENTIALS, "401 Unauthorized", "success"),
    ({"mode": "cut"}, SharegramUnavailable, FailureReason.RESET, "ECONNRESET: the response was cut", "failure"),
    ({"mode": "redirect"}, InvalidResponse, FailureReason.REDIRECT, "307", "failure"),
    ({"mode": "not_json"}, InvalidResponse, FailureReason.NOT_JSON, "not JSON", "failure"),
    ({"mode": "wrong_shape"}, InvalidResponse, FailureReason.INVALID_FIELD, "invalid at", "success"),
    ({"mode": "huge"}, InvalidResponse, FailureReason.TOO_LARGE, "more than 8388608 bytes", "failure"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "words", "effect"),
    FAULTS,
    ids=["-".join(map(str, fault[0].values())) for fault in FAULTS],
)
async def test_each_failure_has_a_class_a_reason_its_words_and_no_value_of_anybody(
    simulator: SimulatorClient,
    open_client: Open,
    logs: Path,
    fault: dict[str, object],
    kind: type[CallError],
    reason: FailureReason,
    words: str,
    effect: str,
) -> None:
    breaker = BreakerProbe()
    await simulator.put("/_sim/faults", fault)
    async with open_client(simulator.base_url, protections=CallProtections(breaker), **ONCE) as client:
        with pytest.raises(kind) as raised:
            await client.performers(SharegramCaller.job())
    error = raised.value
    assert (error.reason, breaker.heard) == (reason, [effect])
    assert words in error.message
    port = simulator.base_url.rpartition(":")[2]
    assert_no_planted_value((error.message, str(error.details), *logged(logs)), port)


async def test_refused_connection_is_econnrefused(open_client: Open) -> None:
    breaker = BreakerProbe()
    address = f"http://127.0.0.1:{free_port()}"
    async with open_client(address, protections=CallProtections(breaker), **ONCE) as client:
        with pytest.raises(SharegramUnavailable, match=r"^ECONNREFUSED"):
            await client.performers(SharegramCaller.job())
    assert breaker.heard == ["failure"]


async def test_simulator_refuses_connections_for_a_time(simulator: SimulatorClient, open_client: Open) -> None:
    await simulator.put("/_sim/faults", {"mode": "refused", "delayMs": 100})
    async with open_client(simulator.base_url, **ONCE) as client:

        async def is_answered() -> bool:
            try:
                await client.performers(SharegramCaller.job())
            except SharegramUnavailable as error:
                assert str(error).startswith("ECONNREFUSED")  # noqa: PT017
                return False
            return True

        await eventually(is_answered)


async def test_unresolved_name_is_enotfound(open_client: Open) -> None:
    async with open_client("http://sharegram.invalid", **ONCE) as client:
        with pytest.raises(SharegramUnavailable, match=r"^ENOTFOUND"):
            await client.performers(SharegramCaller.job())


async def test_hanging_health_is_etimedout_and_the_breaker_does_not_hear_of_it(
    simulator: SimulatorClient, open_client: Open
) -> None:
    breaker = BreakerProbe()
    await simulator.put("/_sim/faults", {"mode": "hang"})
    async with open_client(simulator.base_url, protections=CallProtections(breaker)) as client:
        with pytest.raises(SharegramUnavailable, match=r"^ETIMEDOUT: no answer within 0"):
            await client.health(SharegramCaller.api(seconds=0.1))
        with pytest.raises(SharegramUnavailable, match=r"^ETIMEDOUT") as raised:
            await client.performers(SharegramCaller.api(seconds=0.1))
    assert raised.value.reason is FailureReason.DEADLINE
    assert breaker.heard == ["none"], "the caller had no time: that says nothing about Sharegram"


async def test_open_breaker_and_fallback_mode_send_nothing_and_are_not_retried(
    simulator: SimulatorClient, open_client: Open
) -> None:
    breaker = BreakerProbe(is_open=True)
    async with open_client(simulator.base_url, protections=CallProtections(breaker)) as client:
        with pytest.raises(CircuitBreakerOpen):
            await client.performers(SharegramCaller.job())
    until = datetime(2026, 11, 24, 12, tzinfo=UTC)
    protections = CallProtections(fallback=FallbackOn(until))
    for before, seconds in ((timedelta(hours=1), 300), (timedelta(seconds=20), 20)):
        async with open_client(
            simulator.base_url, protections=protections, clock=lambda now=until - before: now
        ) as client:
            with pytest.raises(FallbackActive) as raised:
                await client.performers(SharegramCaller.job())
            assert raised.value.details == {"fallbackUntil": "2026-11-24T12:00:00.000Z"}
            assert raised.value.retry_after == seconds
    assert (await simulator.state())["calls"] == []


async def test_retry_after_holds_the_budget_of_all_and_an_empty_budget_waits_without_a_permit(
    simulator: SimulatorClient, open_client: Open
) -> None:
    breaker, budget = BreakerProbe(), BudgetProbe(waits=[1e-9])
    protections = CallProtections(breaker, budget=budget)
    async with open_client(simulator.base_url, protections=protections) as client:
        await client.performers(SharegramCaller.job())
        assert (breaker.heard, len((await simulator.state())["calls"])) == (["none", "success"], 1)
        await simulator.put("/_sim/faults", {"mode": "errors", "status": 503, "retryAfter": "99999"})
        with pytest.raises(RetryLater) as raised:
            await client.performers(SharegramCaller.job())
    assert (budget.held, raised.value.retry_after) == ([300], 300)


async def test_without_address_or_keys_nothing_is_called(simulator: SimulatorClient, open_client: Open) -> None:
    async with open_client("", sharegram_api_url="") as client:
        with pytest.raises(IntegrationNotConfigured):
            await client.health(SharegramCaller.api())
    async with open_client(simulator.base_url, sharegram_secret_key=None) as client:
        with pytest.raises(IntegrationNotConfigured):
            await client.performers(SharegramCaller.api())


async def test_refused_credentials_name_our_clock_and_slow_calls_down(
    simulator: SimulatorClient, open_client: Open
) -> None:
    breaker = BreakerProbe()
    skewed = lambda: datetime.now(UTC) + timedelta(seconds=400)  # noqa: E731
    async with open_client(simulator.base_url, protections=CallProtections(breaker), clock=skewed) as client:
        for _ in range(5):
            with pytest.raises(CredentialsRejected, match=r"401 Unauthorized.*our clock is (399|400|401) s ahead"):
                await client.performers(SharegramCaller.job())
        assert 0 < client.credentials_rejected_seconds() <= 60
        await client.health(SharegramCaller.api())
    assert [call["path"] for call in (await simulator.state())["calls"]] == ["/v1/performers", "/v1/health"]


async def test_one_bad_record_does_not_hide_the_others_of_its_page(open_client: Open) -> None:
    good = {"performerId": "sg_1", "profile": {}, "status": "active", "version": 1, "updatedAt": "2026-11-24T12:00:00Z"}
    bad = {**good, "profile": {"bio": ["a planted text"]}}

    async def page(_: web.Request) -> web.Response:
        return web.json_response({"performers": [good, bad, good], "nextCursor": None})

    app = web.Application()
    app.router.add_get("/v1/performers", page)
    async with TestServer(app) as server, open_client(str(server.make_url("")).rstrip("/")) as client:
        found = await client.performers(SharegramCaller.job())
    assert len(found.performers) == 2
    assert [(error.message, error.details) for error in found.invalid] == [
        ("the response is invalid at $.profile.bio", {"field": "$.profile.bio"})
    ]


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 7 ", 7),
        ("300", 300),
        ("301", 300),
        ("99999999999999999999", 300),
        ("-5", None),
        ("1.5", None),
        ("1_0", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Tue, 24 Nov 2026 12:00:09 GMT", 9),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ("Tue, 24 Nov 2026 12:00:09", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_capped(value: str | None, seconds: int | None) -> None:
    assert parse_retry_after(value, lambda: NOW) == seconds


PERSONAL = {"email": "planted@example.com", "documentNumber": "PLANTED-4711", "lastName": "Plantagenet-Planted"}


async def texts_of_failed_verification(client: SharegramClient, work: str) -> list[str]:
    """Ask for a verification with planted personal data; return what the error says, if there is one."""
    caller = SharegramCaller.api(f"request-{work}")
    try:
        await client.start_verification(caller, work=work, performer_id="sg_1", fields=PERSONAL)
    except SafeVideoError as error:
        return [error.message, str(error.details), repr(error), str(error.__cause__)]
    return []


async def test_no_secret_signature_or_personal_datum_is_in_a_log_a_metric_or_an_error(
    simulator: SimulatorClient, open_client: Open, logs: Path, tmp_path: Path
) -> None:
    texts, registry, ca = [], CollectorRegistry(), tmp_path / "ca.pem"
    faults: list[dict[str, object]] = [{"mode": "ok"}, *(fault for fault, *_ in FAULTS)]
    faults.sort(key=lambda fault: fault["mode"] == "unauthorized")  # after it no call is sent for a minute
    async with open_client(simulator.base_url, registry=registry, **ONCE) as client:
        for number, fault in enumerate(faults):
            await simulator.put("/_sim/faults", {**fault, "paths": ["/v1/kyc"]})
            texts += await texts_of_failed_verification(client, f"fault-{number}")
    for kind in get_args(CertificateKind):
        settings = SimulatorSettings(
            port=0, webhook_secret=SecretStr("secret"), api_key=SecretStr(PLANTED[0]), tls=kind, tls_ca_file=ca
        )
        tls = CollectorRegistry()
        async with (
            serving(settings) as address,
            open_client(address, registry=tls, sharegram_ca_file=ca, **ONCE) as client,
        ):
            texts += [*await texts_of_failed_verification(client, kind), generate_latest(tls).decode()]
    for number, protections in enumerate((CallProtections(BreakerProbe(is_open=True)), CallProtections(fallback=LONG))):
        rejected = CollectorRegistry()
        async with open_client(simulator.base_url, protections=protections, registry=rejected, **ONCE) as client:
            texts += await texts_of_failed_verification(client, f"rejected-{number}")
            texts.append(generate_latest(rejected).decode())
    texts += [*logged(logs), generate_latest(registry).decode()]
    assert len([text for text in texts if text]) > len(FAULTS)
    assert [cause for cause in ("TLS: ", "CircuitBreakerOpen", "FallbackActive") if cause not in "".join(texts)] == []
    assert_no_planted_value(texts, simulator.base_url)
    found = [value for value in PERSONAL.values() for text in texts if value in text]
    assert found == []
    assert [text for text in texts if re.search(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text)] == []  # a signature
