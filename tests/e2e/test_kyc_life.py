"""A KYC request through all services: from the submission to the provider's result, its corrections and decisions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from sqlalchemy import Row, select

import gateway.app
import kyc_worker.app
from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database import kyc_requests as kyc_request_store
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, event_inbox, kyc_requests
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.feature_flags import FLAGS_DB
from safevideo_testkit.all_services import SECRET, ingest_only, serving, settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api, Json
from safevideo_testkit.kyc import KycClient, kyc_settings, sign_in
from safevideo_testkit.log_lines import app_lines, without_context
from safevideo_testkit.stacks import StackUnderTest
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

API_KEY, SECRET_KEY = "the-api-key-of-this-run", "the-secret-key-of-this-run"


@dataclass(slots=True)
class KycSystem:
    """A gateway, webhook-ingest and a simulator. A test starts the worker."""

    database: Database
    simulator: SimulatorClient
    performer: KycClient
    reviewer: KycClient
    name: str
    values: dict[str, object]
    """The settings of gateway and worker."""

    async def submitted(self) -> int:
        """Submit a request with all documents."""
        request_id = await self.performer.submitted()
        await self.performer.upload_all(request_id)
        return request_id

    async def becomes(self, request_id: int, status: str) -> None:
        async def is_there() -> bool:
            answer = await self.performer.get(f"{request_id}/status")
            return answer.status == 200 and bool(answer.json["data"]["status"] == status)

        await eventually(is_there)

    async def verifications(self) -> list[Json]:
        found = (await self.simulator.state())["verifications"]
        return [each for each in found if each["performerId"] == self.name]

    async def verification_of(self, request_id: int) -> str:
        """Wait until the worker has stored the verification."""

        async def is_stored() -> bool:
            return await self.stored_verification(request_id) is not None

        await eventually(is_stored)
        verification_id = await self.stored_verification(request_id)
        assert verification_id is not None
        return verification_id

    async def stored_verification(self, request_id: int) -> str | None:
        query = select(kyc_requests.c.verification_id).where(kyc_requests.c.id == request_id)
        async with self.database.read_connection() as reading:
            found: str | None = await reading.scalar(query)
        return found

    async def row(self, request_id: int) -> Row[*tuple[Any, ...]]:
        async with self.database.read_connection() as reading:
            return (await reading.execute(select(kyc_requests).where(kyc_requests.c.id == request_id))).one()

    async def event_has(self, code: str) -> None:
        """Wait until an event of the performer has this reason."""

        async def is_there() -> bool:
            query = select(event_inbox.c.reason).where(event_inbox.c.performer_id == self.name)
            async with self.database.read_connection() as reading:
                return any(code in (reason or "") for reason in await reading.scalars(query))

        await eventually(is_there)

    async def report(self, verification_id: str, status: str, risk_score: float) -> None:
        await self.simulator.post(f"/_sim/verifications/{verification_id}", {"status": status, "riskScore": risk_score})

    async def fetch(self, request_ids: list[int]) -> Json:
        url = f"{self.reviewer.site.base_url}/api/v1/admin/kyc/resync"
        body = {"requestIds": request_ids}
        async with self.reviewer.site.session.post(url, headers=self.reviewer.headers, json=body) as answer:
            assert answer.status == 202
            data: Json = (await answer.json())["data"]
        return data


@pytest.fixture
async def system(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> AsyncIterator[KycSystem]:
    async with AsyncExitStack() as opened:
        name = f"sg_{token_hex(4)}"
        database = await opened.enter_async_context(Database.open(stack.database_url))
        hook = await opened.enter_async_context(ingest_only(stack, broker, log))
        simulated = SimulatorSettings(
            port=0,
            webhook_url=hook,
            webhook_secret=SecretStr(SECRET),
            api_key=SecretStr(API_KEY),
            secret_key=SecretStr(SECRET_KEY),
            retry_factor=0.01,
        )
        simulator = await opened.enter_async_context(running_simulator(simulated))
        values = (
            settings_of(stack)
            | kyc_settings(tmp_path / "documents")
            | {
                "sharegram_api_url": f"{simulator.base_url}/v1",
                "sharegram_api_key": API_KEY,
                "sharegram_secret_key": SECRET_KEY,
                "retry_initial_seconds": 0.05,
                "retry_max_seconds": 0.2,
                "job_retry_initial_seconds": 0.05,
                "job_lease_seconds": 1,
            }
        )
        settings = GatewaySettings.model_validate(values)
        port = await opened.enter_async_context(serving(gateway.app.build_app(settings, broker, log), settings))
        session = await opened.enter_async_context(aiohttp.ClientSession())
        site = Api(f"http://127.0.0.1:{port}", session)
        performer = await sign_in(site, database, stack.redis_url, name)
        async with database.transaction() as tx:
            key = await api_keys.create(tx, "a-reviewer", Role.ADMIN, utc_now())
        reviewer = {"X-API-Client": "a-reviewer", "X-API-Key": key}

        yield KycSystem(database, simulator, performer, KycClient(site, reviewer), name, values)
        assert without_context(app_lines(log, logs)) == []


@asynccontextmanager
async def worker(system: KycSystem, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """Run kyc-worker."""
    settings = KycWorkerSettings.model_validate(system.values)
    async with serving(kyc_worker.app.build_app(settings, broker, log), settings):
        yield


async def test_life_of_a_request_with_corrections_and_a_decision(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with worker(system, broker, log):
        request_id = await system.submitted()
        verification_id = await system.verification_of(request_id)
        await system.report(verification_id, "passed", 91)
        await system.becomes(request_id, "verified")
        data = (await system.performer.get(f"{request_id}/status")).json["data"]
        assert (data["riskScore"], data["provider"]["status"], data["decision"]) == (91, "passed", None)
        await system.report(verification_id, "failed", 12)
        await system.becomes(request_id, "rejected")
        await system.report(verification_id, "passed", 61)
        await system.becomes(request_id, "in_review")
        answer = await system.reviewer.post(f"{request_id}/approve", {"notes": "Seen."})
        assert answer.json["data"]["status"] == "verified"
        await system.report(verification_id, "review", 61)  # says nothing new: the decision stands
        await system.report(verification_id, "failed", 3)
        await system.becomes(request_id, "rejected")
    assert len(await system.verifications()) == 1


async def test_result_before_the_answer_waits_and_is_applied_once_its_verification_is_known(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger
) -> None:
    """Sharegram begins the verification and its answer is lost: the job sends the same again under the same key."""
    fault = {"mode": "cut", "rate": 1, "afterEffect": True, "paths": ["/v1/kyc/verify"]}
    await system.simulator.put("/_sim/faults", fault)
    async with worker(system, broker, log):
        request_id = await system.submitted()
        (state,) = [await system.simulator.state_when(lambda state: bool(state["verifications"]))]
        (begun,) = state["verifications"]
        await system.report(begun["verificationId"], "passed", 95)

        await system.event_has("VERIFICATION_EXPECTED")
        assert await system.stored_verification(request_id) is None
        await system.simulator.put("/_sim/faults", {"mode": "ok"})
        await system.becomes(request_id, "verified")
    assert await system.stored_verification(request_id) == begun["verificationId"]
    assert len(await system.verifications()) == 1


async def test_line_about_a_retried_job_names_job_request_and_performer(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger, logs: Path
) -> None:
    await system.simulator.put("/_sim/faults", {"mode": "errors", "rate": 1, "status": 500})
    async with worker(system, broker, log):
        await system.submitted()

        async def is_logged() -> bool:
            return any("Job attempt not completed" in line for line in app_lines(log, logs))

        await eventually(is_logged)
    line = next(line for line in app_lines(log, logs) if "Job attempt not completed" in line)
    for pair in ("job_id=", "job_type=kyc_verification", "request_id=", f"performer_id={system.name}"):
        assert f" {pair}" in line


async def test_result_that_never_came_is_fetched_and_its_late_webhook_changes_nothing(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with worker(system, broker, log):
        request_id = await system.submitted()
        verification_id = await system.verification_of(request_id)
        silent = {"status": "passed", "riskScore": 88, "silent": True}
        await system.simulator.post(f"/_sim/verifications/{verification_id}", silent)
        data = await system.fetch([request_id, 999999])
        assert (data["accepted"], data["notFound"]) == ([request_id], [999999])
        await system.becomes(request_id, "verified")
        before = await system.row(request_id)
        (fetched,) = await system.verifications()
        data = {"verificationId": verification_id, "performerId": system.name, "result": fetched["result"]}
        late = {"event": "kyc.verification.completed", "timestamp": fetched["updatedAt"], "data": data}
        await system.simulator.post("/_sim/webhooks", late)
        await system.event_has("ALREADY_APPLIED")
        assert (await system.row(request_id)).change_sequence == before.change_sequence


async def test_late_failure_of_a_replaced_verification_puts_its_successor_before_a_person(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with worker(system, broker, log):
        first = await system.submitted()
        first_verification = await system.verification_of(first)
        await system.report(first_verification, "passed", 91)
        await system.becomes(first, "verified")
        async with system.database.transaction() as tx:
            await kyc_request_store.set_values(tx, first, expires_at=utc_now() + timedelta(days=20))
        second = await system.submitted()
        verification = await system.verification_of(second)
        assert await system.performer.status(first) == "verified"
        await system.report(verification, "passed", 95)
        await system.becomes(second, "verified")
        await system.becomes(first, "expired")
        await system.report(first_verification, "failed", 2)
        await system.becomes(first, "rejected")
        (listed,) = (await system.reviewer.get("pending")).json["data"]
        assert (listed["requestId"], listed["status"]) == (second, "verified")
        assert listed["reviewReason"] == "predecessor_failed"


@pytest.mark.parametrize("way", ["webhook", "fetch"])
async def test_late_pass_of_a_superseded_verification_is_shown_and_verifies_nothing(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger, way: str
) -> None:
    async with worker(system, broker, log):
        first = await system.submitted()
        first_verification = await system.verification_of(first)
        await system.report(first_verification, "failed", 9)
        await system.becomes(first, "rejected")
        second = await system.submitted()
        await system.verification_of(second)
        body = {"status": "passed", "riskScore": 93, "silent": way == "fetch"}
        await system.simulator.post(f"/_sim/verifications/{first_verification}", body)
        if way == "fetch":
            await system.fetch([first])

        async def is_shown() -> bool:
            data = (await system.performer.get(f"{first}/status")).json["data"]
            assert (data["status"], data["supersededBy"]) == ("rejected", second)
            return bool(data["provider"]["status"] == "passed")

        await eventually(is_shown)
        assert await system.performer.status(second) == "in_progress"
        assert (await system.reviewer.get("pending")).json["data"] == []
        await system.report(first_verification, "failed", 3)

        async def is_before_a_person() -> bool:
            listed = (await system.reviewer.get("pending")).json["data"]
            return [(each["requestId"], each["reviewReason"]) for each in listed] == [(second, "predecessor_failed")]

        await eventually(is_before_a_person)
        assert await system.performer.status(second) == "in_progress"


async def test_switched_off_kyc_takes_no_submission_and_sends_none_but_applies_results(
    system: KycSystem, broker: Broker, log: FilteringBoundLogger, stack: StackUnderTest
) -> None:
    request_id = await system.submitted()
    verification_id = f"ver_{token_hex(6)}"
    async with system.database.transaction() as tx:
        begun = await kyc_request_store.insert_request(tx, system.name, verification_id, KycStatus.REJECTED, utc_now())
    async with open_redis(stack.redis_url, FLAGS_DB, seconds=5) as redis:
        await redis.set("feature:kyc:enabled", "false")
        async with worker(system, broker, log):
            result = {"status": "review", "riskScore": 70, "checks": {}}
            data = {"verificationId": verification_id, "performerId": system.name, "result": result}
            await system.simulator.post("/_sim/webhooks", {"event": "kyc.verification.completed", "data": data})
            await system.becomes(begun, "in_review")

            async def is_refused() -> bool:
                return (await system.performer.submit()).code == "FEATURE_DISABLED"

            await eventually(is_refused)
            async with system.database.read_connection() as reading:
                query = select(batch_jobs.c.status, batch_jobs.c.tries)
                (job,) = await reading.execute(query.where(batch_jobs.c.job_type == "kyc_verification"))
            assert tuple(job) == ("queued", 0)
            assert await system.verifications() == []
            await redis.delete("feature:kyc:enabled")
            await system.verification_of(request_id)
