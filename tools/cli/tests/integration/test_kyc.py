"""`safevideo kyc`: Sharegram's result beside our decision, and the comparison of documents with their files."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import select

from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import audit_log
from safevideo_common.domain.kyc import KycRules, KycStatus, RejectionReason
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.kyc.decisions import record_decision
from safevideo_testkit.command import command_runner

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
REPORTED = WriteVersion(4, int(NOW.timestamp()) * 1_000_000)


def test_kyc_show_prints_the_result_and_the_decision(migrated_sqlite_url: str) -> None:
    async def fill() -> None:
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            request_id = await kyc_requests.insert_request(tx, "sg_1", "ver_1", KycStatus.IN_PROGRESS, NOW)
            stored = await kyc_requests.get(tx, request_id, locked=True)
            assert stored is not None
            result = {"status": "review", "riskScore": 60, "checks": {}}
            reviewed = replace(
                stored.request, status=KycStatus.IN_REVIEW, risk_score=60, result=result, write_version=REPORTED
            )
            reason = RejectionReason.SUSPICIOUS
            await record_decision(
                tx, reviewed, KycStatus.REJECTED, NOW, KycRules(), decided_by="a-reviewer", reason=reason
            )

    asyncio.run(fill())
    safevideo = command_runner(DATABASE_URL=migrated_sqlite_url, COLUMNS="140")
    shown = safevideo("kyc", "show", "--request-id", "1")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Request 1 of sg_1: rejected" in shown.stdout
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["Sharegram", "review", "2026-11-28T10:00:00.000Z", "risk", "score", "60"] in lines
    assert ["decision", "rejected", "2026-11-28T10:00:00.000Z", "suspicious"] in lines
    document = orjson.loads(safevideo("kyc", "show", "--request-id", "1", "--json").stdout)
    assert (document["provider"]["version"], document["decision"]["reason"]) == (4, "suspicious")
    assert safevideo("kyc", "show", "--request-id", "2").stderr.startswith("KYC_REQUEST_NOT_FOUND: ")


def test_kyc_documents_cleanup_enqueues_what_was_confirmed_and_is_audited(migrated_sqlite_url: str) -> None:
    safevideo = command_runner(DATABASE_URL=migrated_sqlite_url, COLUMNS="140")
    asked = safevideo("kyc", "documents", "cleanup", "--adopt-store", "--accept-orphans", "21", "--json")
    assert (asked.returncode, asked.stderr) == (0, "")
    job = orjson.loads(asked.stdout)
    assert (job["jobType"], job["priority"]) == ("kyc_document_cleanup", "high")
    assert job["parameters"] == {"adoptStore": True, "acceptOrphans": 21}

    async def audited() -> list[tuple[str, object]]:
        async with Database.open(migrated_sqlite_url) as database, database.read_connection() as reading:
            return [(row.action, row.details) for row in await reading.execute(select(audit_log))]

    details = {"jobId": job["jobId"], "parameters": job["parameters"]}
    assert asyncio.run(audited()) == [("kyc.document_cleanup.confirmed", details)]
