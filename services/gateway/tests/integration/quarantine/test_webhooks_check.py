"""The check `webhooks` of health: nothing came, some were refused, all were refused."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.health.checks import CheckResult, CheckStatus, webhooks_result
from safevideo_common.database.engine import Database

NOW = datetime(2026, 11, 24, 12, 1, tzinfo=UTC)
Quarantine = Any  # of this folder's conftest.py


async def test_webhooks_check_is_unhealthy_if_all_webhooks_of_five_minutes_were_refused(
    database: Database, quarantine: Quarantine, record: Callable[..., Awaitable[None]]
) -> None:
    quiet = CheckResult(CheckStatus.HEALTHY, "none accepted yet; 0 refused in 5 minutes; 0 in the quarantine")
    assert await webhooks_result(database, NOW) == quiet
    await quarantine.keep_many(2)
    only_refused = await webhooks_result(database, NOW)
    assert only_refused.status is CheckStatus.UNHEALTHY
    assert only_refused.message == (
        "none accepted yet; 2 refused in 5 minutes (signature_mismatch); 2 in the quarantine"
    )
    await record("evt-1", received_at=NOW)
    some_refused = await webhooks_result(database, NOW)
    assert some_refused.status is CheckStatus.WARNING
    assert some_refused.message.startswith("last accepted 2026-11-24T12:01:00.000Z; 2 refused")
    later = await webhooks_result(database, NOW + timedelta(minutes=6))
    assert later.status is CheckStatus.HEALTHY
    assert later.message.endswith("0 refused in 5 minutes; 2 in the quarantine")
