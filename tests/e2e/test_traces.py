"""The trace of a webhook and of a job, as a real OTLP receiver gets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import gateway.app
import sync_worker.app
import webhook_ingest.app
from gateway.settings import GatewaySettings
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import CHANGES
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.operations import LIST_PERFORMERS, SHOW_PERFORMER
from safevideo_testkit.all_services import SECRET, serving, settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.stacks import StackUnderTest
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.signing import sign_sharegram
from sharegram_simulator.testing import running_simulator
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.api import PATH
from webhook_ingest.settings import IngestSettings

CALL = f"Sharegram {SHOW_PERFORMER.name}"
KEYS = {"api_key": "the-api-key-of-this-run", "secret_key": "the-secret-key-of-this-run"}


class Collector:
    """The spans that arrived, by name."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def receive(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [span for part in message.resource_spans for each in part.scope_spans for span in each.spans]
        return web.Response(content_type="application/x-protobuf")

    def named(self, name: str, trace_id: str, span_id: bytes | None) -> list[Any]:
        found = (each for each in self.spans if each.name == name and each.trace_id.hex() == trace_id)
        return [each for each in found if span_id in (None, each.span_id)]

    async def one(self, name: str, trace_id: str, span_id: bytes | None = None) -> Any:
        """Wait for the only span of that name in a trace."""

        async def has_come() -> bool:
            return bool(self.named(name, trace_id, span_id))

        await eventually(has_come)
        (span,) = self.named(name, trace_id, span_id)
        return span


@asynccontextmanager
async def running_collector() -> AsyncIterator[tuple[Collector, str]]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def post(url: str, performer: str, *, traceparent: str, secret: str = SECRET) -> int:
    data = {"performerId": performer, "status": "active", "version": 1}
    now = datetime.now(UTC)
    body = orjson.dumps(
        {"event": "performer.status.changed", "timestamp": now, "data": data, "id": f"evt_{token_hex(8)}"}
    )
    headers = sign_sharegram(body, secret, now, None) | {
        "Content-Type": "application/json",
        "traceparent": traceparent,
    }
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def test_trace_of_a_webhook_is_complete_and_a_job_and_its_answer_are_one_trace(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with (
        running_collector() as (collector, endpoint),
        running_simulator(SimulatorSettings.model_validate({"port": 0, "webhook_secret": SECRET, **KEYS})) as simulator,
    ):
        values = settings_of(stack) | {"otel_exporter_otlp_endpoint": endpoint, "otel_traces_sampler_arg": 1.0}
        ingest = IngestSettings.model_validate(values | {"sharegram_webhook_secret": SECRET})
        sharegram = {"sharegram_api_url": f"{simulator.base_url}/v1"} | {f"sharegram_{k}": v for k, v in KEYS.items()}
        sync = SyncWorkerSettings.model_validate(values | sharegram)
        async with (
            serving(webhook_ingest.app.build_app(ingest, broker, log), ingest) as port,
            serving(sync_worker.app.build_app(sync, broker, log), sync),
            broker.subscribe(f"traces-{token_hex(4)}", [CHANGES], "traces") as changes,
        ):
            url = f"http://127.0.0.1:{port}{PATH}"
            trace, forged, caller = token_hex(16), token_hex(16), token_hex(8)
            assert await post(url, "sg_x", traceparent=f"00-{forged}-{caller}-01", secret="another-secret-71") == 401
            performer = f"sg_{token_hex(4)}"
            assert await post(url, performer, traceparent=f"00-{trace}-{caller}-00") == 200

            received = await collector.one(f"POST {PATH}", trace)
            sent = await collector.one("send sharegram.performer.v1", trace)
            published = await collector.one(f"send {CHANGES}", trace)
            # A record may come twice, as after a rebalance: each delivery has a span, and one caused the change.
            processed = await collector.one("process sync-worker", trace, published.parent_span_id)
            assert received.parent_span_id.hex() == caller
            assert sent.parent_span_id == processed.parent_span_id == received.span_id
            (link,) = processed.links
            transaction = await collector.one("transaction sync-worker", link.trace_id.hex())
            assert (transaction.span_id, transaction.trace_id) == (link.span_id, link.trace_id)
            assert link.trace_id.hex() != trace, "a transaction is part of many traces"

            async def change() -> str:
                while True:
                    for record in await changes.fetch(max_records=100, timeout=1.0):
                        if record.key == performer.encode():
                            return dict(record.headers)["traceparent"].decode()

            async with asyncio.timeout(120):
                assert await change() == f"00-{trace}-{processed.span_id.hex()}-01"

            # The performer was unknown, so the event has queued a job that calls Sharegram.
            async def is_called() -> bool:
                return any(each.name == CALL for each in collector.spans)

            await eventually(is_called)
            call = next(each for each in collector.spans if each.name == CALL)
            job = await collector.one("job performer_fetch", call.trace_id.hex())
            assert call.parent_span_id == job.span_id
            # Sharegram continues the trace of the call with its webhook.
            continued = f"00-{call.trace_id.hex()}-{call.span_id.hex()}-00"
            assert await post(url, performer, traceparent=continued) == 200
            answer = await collector.one(f"POST {PATH}", call.trace_id.hex())
            assert answer.parent_span_id == call.span_id
            assert not any(each.trace_id.hex() == forged for each in collector.spans), "no span before the signature"


async def test_trace_of_a_request_goes_through_its_job_to_the_call_at_sharegram_and_the_change_event(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with (
        running_collector() as (collector, endpoint),
        running_simulator(SimulatorSettings.model_validate({"port": 0, "webhook_secret": SECRET, **KEYS})) as simulator,
        Database.open(stack.database_url) as database,
    ):
        performer = f"sg_{token_hex(4)}"
        profile = {"username": "jane"}
        await simulator.post("/_sim/performers", {"performerId": performer, "profile": profile, "silent": True})
        values = settings_of(stack) | {"otel_exporter_otlp_endpoint": endpoint, "otel_traces_sampler_arg": 1.0}
        values |= {"sharegram_api_url": f"{simulator.base_url}/v1"} | {f"sharegram_{k}": v for k, v in KEYS.items()}
        front, sync = GatewaySettings.model_validate(values), SyncWorkerSettings.model_validate(values)
        async with database.transaction() as tx:
            key = await api_keys.create(tx, "an-admin", Role.ADMIN, utc_now())
        async with (
            serving(gateway.app.build_app(front, broker, log), front) as port,
            serving(sync_worker.app.build_app(sync, broker, log), sync),
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}/api/v1/performers/sync"
            trace, refused, caller = token_hex(16), token_hex(16), token_hex(8)
            admin = {"X-API-Client": "an-admin", "X-API-Key": key}
            for credentials, trace_id, status in (({}, refused, 401), (admin, trace, 202)):
                headers = credentials | {"traceparent": f"00-{trace_id}-{caller}-00"}
                async with session.post(url, json={"fullSync": True}, headers=headers) as answer:
                    assert answer.status == status, await answer.text()

            request = await collector.one("POST /api/v1/performers/sync", trace)
            job = await collector.one("job performer_sync", trace)
            await collector.one(f"send {CHANGES}", trace)
            calls = collector.named(f"Sharegram {LIST_PERFORMERS.name}", trace, None)
            changes = collector.named(f"send {CHANGES}", trace, None)
            assert request.parent_span_id.hex() == caller
            assert job.parent_span_id == request.span_id
            assert calls
            assert {each.parent_span_id for each in (*calls, *changes)} == {job.span_id}
            assert not any(each.trace_id.hex() == refused for each in collector.spans), "no span of an unknown caller"
