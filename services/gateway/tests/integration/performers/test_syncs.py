"""`/api/v1/performers/sync`: one sync at a time, shown and cancelled."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from gateway.settings import GatewaySettings
from safevideo_testkit.http import Api

PATH = "/api/v1/performers/sync"


async def test_sync_is_queued_once_shown_and_cancelled(gateway: Api, admin: dict[str, str]) -> None:
    assert (await gateway.get(f"{PATH}/status", admin)).code == "NO_SYNC_JOBS_FOUND"
    started = await gateway.post(PATH, admin, {"fullSync": True, "syncOptions": {"includeInactive": False}})
    assert (started.status, started.json["data"]["status"]) == (202, "queued")
    assert started.json["data"]["parameters"]["includeInactive"] is False
    job_id = started.json["data"]["jobId"]
    refused = await gateway.post(PATH, admin, {"fullSync": True})
    assert (refused.status, refused.code) == (429, "RATE_LIMITED")

    assert (await gateway.get(f"{PATH}/status?jobId={job_id}", admin)).json["data"]["jobId"] == job_id
    history = (await gateway.get(f"{PATH}/history", admin)).json
    assert [each["jobId"] for each in history["data"]] == [job_id]
    cancelled = await gateway.post(f"{PATH}/cancel", admin, {"jobId": job_id, "reason": "a test"})
    assert (cancelled.status, cancelled.json["data"]["status"]) == (202, "cancelled")
    again = await gateway.post(f"{PATH}/cancel", admin, {"jobId": job_id, "reason": "a test"})
    assert again.code == "JOB_NOT_CANCELLABLE"


async def test_sync_is_refused_for_contradictory_parameters(gateway: Api, admin: dict[str, str]) -> None:
    body = {"fullSync": True, "since": "2026-11-24T20:58:25Z"}
    answer = await gateway.post(PATH, admin, body)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert list(answer.json["error"]["details"]) == ["since"]


async def test_second_sync_is_refused_while_one_is_queued_and_a_repetition_gets_the_first_response(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]],
    settings: GatewaySettings,
    admin: dict[str, str],
) -> None:
    with_key = {**admin, "Idempotency-Key": "once"}
    async with start(settings) as gateway:
        first = await gateway.post(PATH, with_key, {"fullSync": True})
        again = await gateway.post(PATH, with_key, {"fullSync": True})  # although only one sync may start in 5 minutes
        assert (again.status, again.json) == (202, first.json)
        assert again.headers["Idempotent-Replayed"] == "true"
    async with start(settings.model_copy(update={"rate_limit_sync": "1000/60"})) as gateway:
        refused = await gateway.post(PATH, admin, {"fullSync": False})
    assert (refused.status, refused.code) == (409, "SYNC_ALREADY_IN_PROGRESS")
    assert refused.json["error"]["details"] == {"jobId": first.json["data"]["jobId"]}
