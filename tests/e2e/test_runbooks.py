"""Runbooks are used under pressure: each command runs here, on services with all incidents of the runbooks."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safevideo_testkit.incidents import incident
from safevideo_testkit.runbook_pages import Command, commands

REPLAY = "replay.md: safevideo replay --topic sharegram.performer.v1 --target sync-worker"
NOT_EXECUTED = {
    "spool-corrupt.md: dmesg | tail -50",
    "outbox-latency-high.md: curl -s localhost:3002/metrics | grep ^safevideo_outbox",
    "outbox-latency-high.md: curl -s localhost:3003/metrics | grep ^safevideo_outbox",
    'outbox-latency-high.md: grep -h "Outbox" /var/log/safevideo/app.log | tail',
    'outbox-latency-high.md: grep -h "PARTITION_BLOCKED" /var/log/safevideo/app.log | tail',
    "outbox-latency-high.md: safevideo topics status",
    'outbox-discards.md: grep -h "Outbox message discarded" /var/log/safevideo/app.log | tail',
    'breaker-open.md: curl -s "$SAFEVIDEO_GATEWAY_URL/api/integration/health"',
    'breaker-open.md: grep -h "Circuit breaker" /var/log/safevideo/app.log | tail',
    ('breaker-open.md: grep -hE "ECONNREFUSED|ETIMEDOUT|503 Service Unavailable" /var/log/safevideo/app.log | tail'),
    'breaker-open.md: safevideo breaker close --reason "Sharegram confirmed that it is back"',
    "breaker-open.md: safevideo breaker status",
    'breaker-open.md: safevideo fallback on --duration 3600 --reason "outage at Sharegram"',
    'fallback-on-long.md: curl -s "$SAFEVIDEO_GATEWAY_URL/api/integration/health"',
    (
        'fallback-on-long.md: curl -s -H "X-API-Client: $SAFEVIDEO_API_CLIENT" -H "X-API-Key: $SAFE'
        'VIDEO_API_KEY" "$SAFEVIDEO_GATEWAY_URL/api/v1/admin/audit?action=fallback.switched_on"'
    ),
    'fallback-on-long.md: safevideo fallback off --reason "Sharegram is back"',
    "fallback-on-long.md: safevideo jobs list --status queued",
    "jobs.md: safevideo jobs show ID",
    'jobs.md: grep -h "Job " /var/log/safevideo/app.log | tail',
    "jobs.md: safevideo jobs retry ID",
    """jobs.md: mysql -e "UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = ID\"""",
    'jobs.md: safevideo jobs cancel ID --reason "…"',
    "consumer-halted.md: curl -s localhost:3002/readyz",
    'consumer-halted.md: grep "Consumer halted" /var/log/safevideo/error.log | tail',
    'retries-paused.md: grep "Retries paused" /var/log/safevideo/error.log | tail',
    'consumer-lag-high.md: curl -s localhost:3003/metrics | grep -E "^safevideo_(consumer|rebalances|batch)"',
    'consumer-lag-high.md: grep -hE "Consumer|Batch discarded|Retry scan" /var/log/safevideo/app.log | tail',
    "consumer-lag-high.md: curl -s localhost:3003/healthz",
    f"{REPLAY} --from 2026-11-24T10:00:00Z --force --wait",
    "replay.md: safevideo jobs wait 123",
    "webhooks-stopped.md: safevideo webhook secrets add 2026-11 --from secret.txt",
    "webhooks-stopped.md: safevideo webhook secrets retire 2026-10",
    "value-does-not-show.md: safevideo performers show sg_ada",
    "value-does-not-show.md: safevideo events show evt_1007",
    f"{REPLAY} --from 2026-11-24T10:00:00Z --to 2026-11-24T12:00:00Z --force --yes --wait",
    "replay.md: safevideo jobs show 123",
    'replay.md: safevideo jobs cancel 123 --reason "the wrong range"',
    "replay.md: safevideo jobs retry 123",
    "replay-stalled.md: curl -s localhost:3003/metrics | grep ^safevideo_replay",
    "replay-stalled.md: curl -s localhost:3003/readyz",
    "replay-stalled.md: safevideo jobs show ID",
    r'replay-stalled.md: mysql -e "SELECT * FROM information_schema.innodb_trx ORDER BY trx_started LIMIT 5\G"',
    'replay-stalled.md: mysql -e "KILL 42"',
    'replay-stalled.md: safevideo jobs cancel ID --reason "…"',
    (
        'sharegram-refuses-us.md: grep -h "Sharegram call failed" /var/log/safevideo/app.log | grep '
        "SHAREGRAM_CREDENTIALS_REJECTED | tail -5"
    ),
    'sharegram-refuses-us.md: curl -s localhost:3000/metrics | grep "^safevideo_sharegram_calls_total"',
    "sharegram-refuses-us.md: date -u",
    'kyc-documents-unreadable.md: mysql -e "SELECT * FROM kyc_documents WHERE file_fault IS NOT NULL LIMIT 20"',
    'kyc-documents-unreadable.md: ls -l "$UPLOAD_DIR"',
    'kyc-documents-unreadable.md: grep -h "KYC document" /var/log/safevideo/error.log | tail',
    "kyc-documents-unreadable.md: safevideo kyc sync --request-id ID --wait",
    'kyc-documents-unreadable.md: mysql -e "DELETE FROM kyc_documents WHERE id = ID"',
    (
        'kyc-requests-wait.md: curl -s -H "X-API-Client: $SAFEVIDEO_API_CLIENT"'
        ' -H "X-API-Key: $SAFEVIDEO_API_KEY" "$SAFEVIDEO_GATEWAY_URL/api/v1/kyc/pending"'
    ),
    "kyc-requests-wait.md: safevideo kyc show --request-id ID",
    "kyc-results-late.md: mysql -e \"SELECT id, verification_id FROM kyc_requests WHERE status = 'in_progress'\"",
    "kyc-results-late.md: safevideo kyc show --request-id ID",
    "kyc-results-late.md: safevideo jobs list --status queued",
    "kyc-results-late.md: safevideo jobs list --status failed",
    'kyc-results-late.md: grep -h "sync failed" /var/log/safevideo/sync.log | tail',
    "kyc-results-late.md: safevideo flags list",
    "kyc-results-late.md: safevideo kyc sync --request-id ID --wait",
    'sharegram-slow.md: curl -s localhost:3000/metrics | grep "^safevideo_sharegram"',
    r'sharegram-slow.md: grep -h "Sharegram called\|Sharegram call failed" /var/log/safevideo/app.log | tail -20',
    (
        'sharegram-slow.md: curl -s -o /dev/null -w "%{time_namelookup} %{time_connect} %{time_appconnect} '
        r'%{time_total}\n" "$SHAREGRAM_API_URL/health"'
    ),
}
"""The commands that do not run here: a container may not read kernel messages, and no worker and no Kafka runs."""

COMMAND_SECONDS = 120.0
CONCURRENT_COMMANDS = 4
"""Each start of `safevideo` takes a second of a core."""


async def test_runbook_commands_succeed_and_print_something(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the runbooks use curl, which is not there")
    (tmp_path / "logs").mkdir()
    async with incident(tmp_path) as (to_local, environment):
        executed, limit = (
            [each for each in commands() if not each.is_for_elsewhere],
            asyncio.Semaphore(CONCURRENT_COMMANDS),
        )

        async def run(command: Command) -> str:
            async with limit:
                return await failure_of(command, to_local, environment)

        failures = await asyncio.gather(*map(run, executed))
    assert [failure for failure in failures if failure] == []


def test_runbook_commands_that_are_not_executed_are_listed() -> None:
    found = {str(command).partition("#")[0].strip() for command in commands() if command.is_for_elsewhere}
    assert found == NOT_EXECUTED


async def failure_of(command: Command, to_local: Callable[[str], str], environment: Mapping[str, str]) -> str:
    """Return an empty string if the command succeeded and printed something; otherwise its output."""
    line = f"set -euo pipefail; {to_local(command.line)}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(COMMAND_SECONDS):
        out, err = await process.communicate()
    succeeded = process.returncode == 0 and out.strip() and b'"code":"INTERNAL_ERROR"' not in out
    return "" if succeeded else f"{command} ended with {process.returncode}: {out.decode()}{err.decode()}"
