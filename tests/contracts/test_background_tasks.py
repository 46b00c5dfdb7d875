"""No task ends unseen: each place that starts one is here, with what sees to its end.

A task that should run as long as its process is started by `background_task` of `safevideo_common/service.py`, and so
has the supervisor. Every other place that starts a task is on the list below, with the reason why it needs none.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("libs/common/src/safevideo_common", "services/*/src")
STARTERS: Final = frozenset({"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe", "running_task"})

LIBRARY: Final = "libs/common/src/safevideo_common"
GATEWAY: Final = "services/gateway/src/gateway"
INGEST: Final = "services/webhook-ingest/src/webhook_ingest"
SYNC: Final = "services/sync-worker/src/sync_worker"

CALLER: Final = "its caller waits for it in the same call, and raises its error"
GROUP: Final = "in a `task_group`: its error ends the task that has the group, which is supervised"

REASONS: Final = {
    # --- the mechanism itself ---
    (f"{LIBRARY}/tasks.py", "running_task"): "the place where tasks beside a block begin; its callers are on this list",
    (f"{LIBRARY}/tasks.py", "task_group"): "the place where groups begin; it raises the first error",
    (f"{LIBRARY}/supervisor.py", "_end_of"): "the supervisor runs the work and reads its end",
    (f"{LIBRARY}/service.py", "background_task"): "the task of the supervisor; its end fails the app",
    # --- beside a process ---
    (f"{LIBRARY}/service.py", "_serve"): "the memory monitor; its end, with or without an error, ends the process",
    (f"{LIBRARY}/broker/kafka/client.py", "open_client"): (
        "`ReconnectingClient.run` catches every error, logs it and connects again; readiness probes the broker"
    ),
    (f"{LIBRARY}/broker/kafka/assignment.py", "open_assignment"): (
        "a timer without I/O: it only makes a standstill known earlier, which each check of a claim finds too"
    ),
    (f"{LIBRARY}/broker/embedded/broker.py", "open_embedded_broker"): (
        "for development: deletes old records, and tries again after a failure of the disk"
    ),
    (f"{INGEST}/app.py", "deliver_spool"): (
        "a command: it ends with the drainer and raises its error; the report is written once more at its end"
    ),
    # --- parts of a supervised task ---
    (f"{LIBRARY}/inbox/group_member.py", "GroupMember._start"): GROUP,
    (f"{LIBRARY}/jobs/worker.py", "JobWorker.run"): GROUP,
    (f"{LIBRARY}/outbox/relay.py", "OutboxRelay.run"): GROUP,
    (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer.run"): GROUP,
    (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer._start"): GROUP,
    (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer.__init__"): "a placeholder until `_drain` opens the group",
    (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer._publish_all"): GROUP,
    (f"{LIBRARY}/inbox/consume_loop.py", "ConsumeLoop._process"): (
        "one commit of offsets; the loop waits for it before the next one and at its end"
    ),
    # --- parts of a job ---
    (f"{LIBRARY}/jobs/running_jobs.py", "RunningJobs.start"): (
        "an attempt of a job: the executor turns every error into its outcome, and a lost one is rescued by its lease"
    ),
    (f"{LIBRARY}/replay/job.py", "ReplayJob.run"): "in a `task_group`: its error ends the attempt of the job",
    (f"{LIBRARY}/replay/reader.py", "PrefetchReader.__init__"): "one chunk; `next` waits for it and raises its error",
    (f"{LIBRARY}/replay/reader.py", "PrefetchReader.next"): "one chunk; the next `next` waits for it",
    (f"{SYNC}/performers/deletions.py", "Deletions._still_present"): CALLER,
    (f"{SYNC}/performers/scan_job.py", "PerformerSyncJob._fetch"): CALLER,
    # --- parts of a request ---
    (f"{LIBRARY}/broker/kafka/client.py", "run_shielded"): CALLER,
    (f"{LIBRARY}/broker/kafka/producer.py", "PartitionSender.add"): (
        "sends what waits and ends; an error goes to those who wait and replaces the session"
    ),
    (f"{LIBRARY}/resilience/redis_pipeline.py", "RedisPipeline._start_sender"): (
        "sends what waits and ends; an error goes to those who wait, and its end starts another one for what came since"
    ),
    (f"{LIBRARY}/web/http_protocol.py", "HttpConnection.data_received"): "the answer to one request of a connection",
    (f"{GATEWAY}/performers/service.py", "CoalescedReads._start"): "one read; all who asked for it get its error",
    (f"{GATEWAY}/health/checks.py", "CachedHealthCheck.latest"): "one run of checks, none of which raises",
    (f"{GATEWAY}/documents/converter.py", "DocumentConverter.warm"): (
        "starts one process; the next conversion that takes it gets its error and starts another"
    ),
    (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer.finish"): "the last drain, bounded; the rest stays on disk",
}


def starts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and function of each place in a file that starts a task."""
    yield from _starts(ast.parse(path.read_text()), ())


def _starts(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            function = child.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in STARTERS:
                yield name, ".".join(scope)
        is_scope = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _starts(child, (*scope, child.name) if is_scope else scope)  # type: ignore[attr-defined]


def found() -> dict[tuple[str, str], set[str]]:
    places: dict[tuple[str, str], set[str]] = {}
    for pattern in SOURCES:
        for folder in ROOT.glob(pattern):
            for path in sorted(folder.rglob("*.py")):
                for name, function in starts(path):
                    places.setdefault((str(path.relative_to(ROOT)), function), set()).add(name)
    return places


def test_every_place_that_starts_a_task_has_a_supervisor_or_a_reason() -> None:
    assert sorted(found().keys() - REASONS.keys()) == []


def test_no_reason_is_left_of_a_place_that_starts_no_task() -> None:
    assert sorted(REASONS.keys() - found().keys()) == []


def test_groups_of_tasks_are_opened_by_task_group_which_raises_one_error() -> None:
    places = {place for place, names in found().items() if "TaskGroup" in names}
    assert places == {
        (f"{LIBRARY}/tasks.py", "task_group"),
        (f"{INGEST}/publishing/spool_drainer.py", "SpoolDrainer.__init__"),
    }


def test_task_in_a_nested_function_is_found(tmp_path: Path) -> None:
    source = "class A:\n  async def b(self):\n    def c():\n      loop.create_task(x())\n    ensure_future(y())\n"
    (tmp_path / "a.py").write_text(source)
    assert list(starts(tmp_path / "a.py")) == [("create_task", "A.b.c"), ("ensure_future", "A.b")]
