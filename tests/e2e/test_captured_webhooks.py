"""What somebody can do who holds one rightly signed request, and what a sender does who reuses ids."""

from datetime import UTC, datetime
from secrets import token_hex

from pydantic import SecretStr
from sqlalchemy import select

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, performers
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, all_services
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.system import open_system
from safevideo_testkit.stacks import StackUnderTest
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator
from sharegram_simulator.webhooks import Event, status_changed

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
Row = tuple[str, str | None, int]


async def test_captured_or_reused_webhooks_change_nothing_and_hide_nothing(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    name = f"sg_{token_hex(4)}"
    active, suspended = (
        Event("performer.status.changed", {"performerId": name, "status": status}, AT)  # no id, no version, one time
        for status in ("active", "suspended")
    )
    async with (
        open_system(stack, broker) as system,
        all_services(stack, broker, log) as url,
        running_simulator(SimulatorSettings(port=0, webhook_url=url, webhook_secret=SecretStr(SECRET))) as simulator,
    ):
        answers = [
            *await simulator.send(active, times=2),
            *await simulator.send(suspended, times=2),
            *await simulator.send(active, forge="renamed", times=2),
        ]
        assert {answer["status"] for answer in answers} == {200}
        await simulator.send(status_changed(name, "rejected", None, AT, f"evt_{name}"), forge="reused_id", times=2)
        (renamed,) = await simulator.send(status_changed(name, "pending", None, AT, f"evt_{name}"), forge="renamed")
        assert renamed["status"] == 400

        async def is_settled() -> bool:
            return [status for status, _, _ in await rows(system.database, name)].count("dead") == 1

        await eventually(is_settled)
        assert await rows(system.database, name) == [
            ("applied", None, 3), ("applied", None, 1), ("applied", None, 0), ("dead", "ID_CONFLICT", 0),
        ]  # fmt: skip
        assert await status_of(system.database, name) == "rejected"


async def rows(database: Database, name: str) -> list[Row]:
    c = event_inbox.c
    async with database.read_connection() as reading:
        found = await reading.execute(
            select(c.status, c.reason, c.duplicates).where(c.performer_id == name).order_by(c.id)
        )
        return [(status, reason and reason.partition(":")[0], repeats) for status, reason, repeats in found]


async def status_of(database: Database, name: str) -> str | None:
    async with database.read_connection() as reading:
        status: str | None = await reading.scalar(select(performers.c.status).where(performers.c.sharegram_id == name))
        return status
