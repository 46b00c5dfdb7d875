"""The commands of the documents, as they are written there, under one `make run` and its `.run/env`."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from sqlalchemy import update

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.jobs.model import JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_devstack.run.testing import RunningRun, free_offset, serving_run
from safevideo_testkit.eventually import eventually
from safevideo_testkit.runbook_pages import commands

NEEDS_ANOTHER_MACHINE = (
    "kubectl",
    "mysql",
    "dmesg",
    "safevideo topics",
    "safevideo users erasures import",
    "safevideo users holds import",
)
"""There is no cluster, a container may not read kernel messages, the embedded stack has no Kafka and no MySQL,
and nobody has made a backup."""

COMMAND_SECONDS = 120.0
CONCURRENT_COMMANDS = 3
PERFORMER, EVENT = "sg_ada", "evt_1007"
"""As the pages write them."""
SECRET, NEXT_SECRET = "tN8wK3xR-of-the-runbooks", "vB5mQ9zL-of-the-tasks"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operator_tasks")]


@dataclass(frozen=True, slots=True)
class Typed:
    """A command that was typed, and what it did."""

    line: str
    code: int
    out: str
    err: str

    @property
    def has_worked(self) -> bool:
        """Whether it did what it says; a `grep` may find nothing in a healthy system."""
        return self.code == 0 or (self.code == 1 and (("grep" in self.line and not self.err) or self.is_about_nobody))

    @property
    def is_about_nobody(self) -> bool:
        """Whether it was understood and answered that there is no such person."""
        return (
            "PERSON" in self.line
            and re.match(r"[A-Z_]+_NOT_FOUND: |NOT_FOUND: |VALIDATION_ERROR: ", self.err) is not None
        )


@dataclass(frozen=True, slots=True)
class Operator:
    """A person at a terminal that has sourced `.run/env`."""

    run: RunningRun
    folder: Path
    environment: Mapping[str, str]

    async def type(self, line: str) -> Typed:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"set -uo pipefail; {line}"),
            env=self.environment,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(COMMAND_SECONDS):
            out, err = await process.communicate()
        return Typed(line, process.returncode or 0, out.decode(), err.decode())

    async def send(self, webhook: Mapping[str, object]) -> int:
        """Let Sharegram send a webhook; return our status."""
        url = self.environment["SAFEVIDEO_SIMULATOR_URL"]
        async with ClientSession(url) as session, session.post("/_sim/webhooks", json=webhook) as response:
            (answer,) = (await response.json())["answers"]
            return int(answer["status"])

    async def steer(self, path: str, body: object, method: str = "POST") -> None:
        """Change something at the simulated Sharegram."""
        url = self.environment["SAFEVIDEO_SIMULATOR_URL"]
        async with ClientSession(url) as session, session.request(method, path, json=body) as response:
            assert response.status < 300, await response.text()

    async def job(self, status: JobStatus | str, job_type: str = "nobody_runs_this") -> int:
        """Insert a job with this status."""
        async with (
            Database.open(self.environment["DATABASE_URL"], pool_size=1) as database,
            database.transaction() as tx,
        ):
            job_id = (await job_admin.enqueue(tx, NewJob(job_type, unique_key=None))).job_id
            ended = {"status": status, "error": "AWAY: it was"} if status != JobStatus.QUEUED else {}
            if ended:
                await tx.execute(update(batch_jobs).where(batch_jobs.c.id == job_id).values(ended))
        return job_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(tmp_path_factory: pytest.TempPathFactory, safevideo_command: Path) -> AsyncIterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    async with serving_run(folder / ".run", free_offset()) as run:
        (folder / "secret.txt").write_text(SECRET)
        environment = run.environment()
        assert f"{Path(sys.executable).parent}:" in environment["PATH"], "the folder of `safevideo`"
        environment["PATH"] = f"{safevideo_command.parent}:{environment['PATH']}"
        yield Operator(run, folder, environment)


async def test_commands_of_runbooks_run_as_typed_under_make_run(operator: Operator) -> None:
    lines = [each.line.partition("  #")[0].strip() for each in commands() if each.is_for_elsewhere]
    webhook = {"event": "performer.profile.updated", "data": {"performerId": PERFORMER, "changes": {"bio": "Dances."}}}
    assert await operator.send(webhook | {"id": EVENT}) == 200
    await operator.type("safevideo webhook secrets add 2026-10 --from secret.txt")
    limit = asyncio.Semaphore(CONCURRENT_COMMANDS)

    async def failure_of(line: str) -> str:
        async with limit:
            typed = await operator.type(await with_job(operator, line))
            async with asyncio.timeout(COMMAND_SECONDS):
                while typed.err.startswith("SYNC_ALREADY_IN_PROGRESS"):  # of another line: an operator waits, too
                    typed = await operator.type(line)
        return "" if typed.has_worked and "command not found" not in typed.err else f"{typed}"

    wanted = dict.fromkeys(line for line in lines if not line.startswith(NEEDS_ANOTHER_MACHINE))
    assert [failure for failure in await asyncio.gather(*map(failure_of, wanted)) if failure] == []


async def with_job(operator: Operator, line: str) -> str:
    """Put the number of a job or of a KYC request into the command that it can be run on."""
    line = line.replace("sg_…", PERFORMER)
    if line.startswith("safevideo kyc"):
        return line.replace("ID", "1")  # of the demo
    match = re.match(r"safevideo jobs (show|wait|retry|cancel) (ID|123)", line)
    if match is None:
        return line
    status = {"wait": JobStatus.COMPLETED, "retry": JobStatus.FAILED}.get(match[1], JobStatus.QUEUED)
    return line.replace(match[2], str(await operator.job(status)), 1)


PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the page: its number, the number of commands in the table, and the commands."""

    number: int
    commands_in_table: int
    lines: Sequence[str]


def tasks() -> Mapping[int, Task]:
    text = PAGE.read_text()
    table = {
        int(number): int(count) for number, count in re.findall(r"^\| (\d+) \| .* \| (\d+) \|$", text, re.MULTILINE)
    }
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        number = int(section.partition(".")[0])
        blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", section, re.DOTALL)
        found[number] = Task(number, table[number], [line for block in blocks for line in block.splitlines()])
    return found


TASKS = tasks()


async def test_page_counts_the_commands_of_its_eighteen_tasks() -> None:
    assert [*TASKS] == [*range(1, 19)]
    assert {each.number: len(each.lines) for each in TASKS.values()} == {
        each.number: each.commands_in_table for each in TASKS.values()
    }
    assert [TASKS[number].commands_in_table for number in (2, 4, 10)] == [1, 1, 1]
    assert TASKS[5].commands_in_table <= 6


async def typed(operator: Operator, number: int, **names: object) -> list[str]:
    """Type the commands of a task, `names` put in; return what each printed."""
    outputs = []
    for line in TASKS[number].lines:
        for name, value in names.items():
            line = re.sub(rf"\b{name}\b", str(value), line)  # noqa: PLW2901
        done = await operator.type(line)
        assert done.code == 0 or (done.code == 1 and line == "safevideo health"), done
        outputs.append(done.out)
    return outputs


async def until_shown(operator: Operator, performer: str, text: str) -> None:
    """Wait until the worker has applied what was sent."""

    async def is_shown() -> bool:
        return text in (await operator.type(f"safevideo performers show {performer}")).out

    await eventually(is_shown)


def profile(performer: str, event_id: str, version: int, **changes: object) -> Mapping[str, object]:
    data = {"performerId": performer, "version": version, "changes": changes}
    return {"event": "performer.profile.updated", "id": event_id, "data": data}


async def test_sourced_file_of_the_first_task_lets_one_type_all_others(operator: Operator) -> None:
    start, source = TASKS[1].lines
    assert start == "make run"
    typed_there = replace(operator, environment={"PATH": operator.environment["PATH"], "SAFEVIDEO_ENV": "production"})
    health = await typed_there.type(f"{source.partition('  #')[0]} && safevideo health")
    assert "webhooks" in health.out, health


async def test_lost_and_dead_names_are_explained_by_one_command(operator: Operator) -> None:
    for performer, late in (("sg_ada", {}), ("sg_cleo", {"bio": "Dances."})):
        assert await operator.send(profile(performer, f"evt_{performer}_9", 9, displayName="New")) == 200
        assert await operator.send(profile(performer, f"evt_{performer}_8", 8, displayName="Old", **late)) == 200
        await until_shown(operator, performer, f"evt_{performer}_8")
    (stale,) = await typed(operator, 2)
    assert "OVERTAKEN: displayName by version 9 (evt_sg_ada_9)" in stale
    (partial,) = await typed(operator, 4)
    assert "displayName by version 9 (evt_sg_cleo_9)" in partial
    assert re.search(r"evt_sg_cleo_8 .* applied", partial)

    await operator.steer("/_sim/performers", {"performerId": "sg_bela", "profile": {"displayName": "Bela"}})
    assert await operator.send(profile("sg_bela", "evt_bad", 9, displayName=7)) == 200
    await until_shown(operator, "sg_bela", "evt_bad")
    dead, fetched = await typed(operator, 3)
    assert "BODY_INVALID: data.changes.displayName" in dead
    assert fetched.startswith("sg_bela ")

    dry, applied = await typed(operator, 6)
    assert ("dryRun: true" in dry, "dryRun: false" in applied) == (True, True)


async def test_refused_webhooks_are_released_by_six_commands(operator: Operator) -> None:
    (operator.folder / "secret.txt").write_text(NEXT_SECRET)
    await operator.steer("/_sim/webhook-secret", {"secret": NEXT_SECRET}, method="PUT")
    for number in (1, 2):
        assert await operator.send(profile(f"sg_refused_{number}", f"evt_refused_{number}", 1, bio="x")) == 401
    await eventually(lambda: is_in_quarantine(operator, "evt_refused_2"))
    health, waiting, _, preview, released, events = await typed(operator, 5)
    assert "signature_mismatch" in health
    assert ("evt_refused_1" in waiting, "2 of " in preview, released.splitlines()[-1][:5]) == (True, True, "2 of ")
    await until_shown(operator, "sg_refused_2", "evt_refused_2")
    assert "received (UTC)" in events


async def is_in_quarantine(operator: Operator, event: str) -> bool:
    return event in (await operator.type("safevideo webhook rejected list --waiting")).out


async def test_jobs_requests_lists_and_errors_by_the_commands_of_the_page(operator: Operator) -> None:
    failed, retried = await typed(operator, 7, ID=await operator.job(JobStatus.FAILED))
    assert "AWAY: it was" in failed
    assert "queued" in retried
    await typed(operator, 8, ID=await operator.job("stuck"))
    shown, cancelled = await typed(operator, 9, ID=await operator.job(JobStatus.QUEUED))
    assert ("history" not in shown, "cancelled" in cancelled) == (True, True)

    async def is_accepted() -> bool:
        # The endpoint reads every five seconds which secrets were added, and one was just now.
        return await operator.send(profile("sg_traced", "evt_traced", 1, bio="x")) == 200

    await eventually(is_accepted)
    await until_shown(operator, "sg_traced", "evt_traced")
    (event,) = json.loads((await operator.type("safevideo events show evt_traced --json")).out)
    (trace,) = await typed(operator, 10, REQUEST=event["requestId"])
    assert "Webhook signature valid" in trace
    assert "applied" in trace

    key, _ = await typed(operator, 12)
    assert "X-API-Key: " in key
    first, second = [json.loads(each)["data"] for each in await typed(operator, 13, ID=event["id"])]
    assert len(first) == 2
    assert all(each["id"] < event["id"] for each in second)
    (error,) = await typed(operator, 14)
    assert json.loads(error)["error"]["code"] == "UNAUTHORIZED"


async def test_rights_are_given_and_taken_by_the_commands_of_the_page(operator: Operator) -> None:
    waiting, listed, suspended, shown, reinstated = await typed(operator, 18)
    assert "role: moderator" in waiting
    assert ("ann@example.com" in listed, "sg_admin@example.com" in listed) == (True, True)
    assert ("state: suspended" in suspended, "state: active" in reinstated) == (True, True)
    assert "action: users.suspended" in shown
