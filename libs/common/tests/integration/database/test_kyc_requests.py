"""KYC requests, on both engines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import kyc_requests as table
from safevideo_common.domain.kyc import KycRequest, KycStatus, ManualDecision
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.errors import DatabaseConflict, DataRejected

NOW = datetime(2026, 11, 24, 20, 58, 25, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


async def submit(database: Database, verification_id: str, performer_id: str = "sg_1") -> int:
    async with database.transaction() as tx:
        return await kyc_requests.insert_request(tx, performer_id, verification_id, KycStatus.IN_PROGRESS, NOW)


async def stored(database: Database, *verification_ids: str) -> dict[str, KycRequest]:
    async with database.transaction() as tx:
        return dict(await kyc_requests.load_for_update(tx, verification_ids))


async def update(database: Database, *changed: KycRequest) -> None:
    async with database.transaction() as tx:
        await kyc_requests.update(tx, changed, LATER)


async def test_new_request_has_an_id_and_no_result(database: Database) -> None:
    number = await submit(database, "ver_1")
    assert await stored(database, "ver_1", "ver_2") == {
        "ver_1": KycRequest(number, "sg_1", "ver_1", KycStatus.IN_PROGRESS)
    }
    assert await submit(database, "ver_2") > number


@pytest.mark.parametrize(
    "write_version",
    [
        WriteVersion(None, 1_764_018_000_123_456),
        WriteVersion(0, 0),
        WriteVersion(2**63 - 1, 32_503_679_999_999_999, 2**62),
    ],
)
async def test_load_returns_a_result_exactly(database: Database, write_version: WriteVersion) -> None:
    await submit(database, "ver_1")
    await submit(database, "ver_2")
    (request,) = (await stored(database, "ver_1")).values()
    verdict: dict[str, object] = {"status": "passed", "riskScore": 79.95, "checks": {"näme": [1, None]}}
    judged = replace(
        request,
        status=KycStatus.IN_REVIEW,
        risk_score=79.95,
        result=verdict,
        write_version=write_version,
        decision=ManualDecision(KycStatus.VERIFIED, write_version.at_micros, KycStatus.IN_REVIEW),
        sequence=2**53,
    )
    await update(database, judged)
    after = await stored(database, "ver_1", "ver_2")
    assert after["ver_1"] == judged
    assert after["ver_2"].status is KycStatus.IN_PROGRESS


async def test_update_keeps_created_at(database: Database) -> None:
    await submit(database, "ver_1")
    await update(database, *(await stored(database, "ver_1")).values())
    async with database.read_connection() as reading:
        created_at, updated_at = (await reading.execute(select(table.c.created_at, table.c.updated_at))).one()
    assert (created_at, updated_at) == (NOW, LATER)


async def test_verification_has_at_most_one_request(database: Database) -> None:
    await submit(database, "ver_1")
    with pytest.raises(DatabaseConflict):
        await submit(database, "ver_1", "sg_2")
    await submit(database, "VER_1", "sg_2")
    assert len(await stored(database, "ver_1", "VER_1")) == 2


async def test_load_and_update_accept_empty_lists(database: Database) -> None:
    assert await stored(database) == {}
    await update(database)


async def test_update_raises_data_rejected_for_a_number_out_of_range(database: Database) -> None:
    await submit(database, "ver_1")
    (request,) = (await stored(database, "ver_1")).values()
    with pytest.raises(DataRejected):
        await update(database, replace(request, write_version=WriteVersion(2**63, 0)))
