"""`/api/v1/performers/sync`: one sync at a time, shown and cancelled."""

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
