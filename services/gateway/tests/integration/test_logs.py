"""What the logs hold, and what must never reach them."""

from collections.abc import Awaitable, Callable

from safevideo_testkit.http import Api

Store = Callable[..., Awaitable[int]]
Logged = Callable[[], list[str]]
EMAIL = "jane@example.com"


async def test_log_line_has_the_request_id(gateway: Api, user: dict[str, str], logged: Logged) -> None:
    answer = await gateway.get("/api/v1/performers/1", {**user, "X-Request-Id": "incident-7"})
    assert answer.headers["X-Request-Id"] == "incident-7"
    assert answer.json["error"]["requestId"] == "incident-7"
    (line,) = [line for line in logged() if "request_id=incident-7" in line]
    assert "status=404" in line


async def test_log_has_no_keys_and_no_personal_data(
    gateway: Api, admin: dict[str, str], store: Store, logged: Logged
) -> None:
    performer_id = await store("sg_1")
    await gateway.get(f"/api/v1/performers/{performer_id}", admin)
    await gateway.get(f"/api/v1/performers/{performer_id}", {**admin, "X-API-Key": "safevideo_wrong_secret"})
    await gateway.get(f"/api/v1/performers/{EMAIL}", admin)
    await gateway.get(f"/api/v1/admin/events?performer={EMAIL}&from={EMAIL}", admin)
    await gateway.get(f"/{EMAIL}")
    text = "\n".join(logged())
    assert "Request answered" in text
    for secret in (admin["X-API-Key"], "safevideo_wrong_secret", EMAIL):
        assert secret not in text
