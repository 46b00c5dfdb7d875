from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_devstack.run.event_feed import IngestLogTail

Write = Callable[..., None]
BEFORE = datetime.now(UTC) - timedelta(minutes=1)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a line as webhook-ingest does."""

    def line(service: str = "webhook-ingest", **details: object) -> None:
        sink = LogSink(tmp_path, stdout=False)
        build_logger(service, sink).info("Webhook signature valid", outcome="accepted", **details)
        sink.close()

    return line


def test_log_tail_reads_each_webhook_once(tmp_path: Path, write: Write) -> None:
    tail = IngestLogTail(tmp_path / "app.log", BEFORE)
    write(event_id='e="1" \\', type="performer.profile.updated", performer="sg_1")
    (webhook,) = tail.read()
    assert (webhook.accepted, webhook.code, webhook.details["event_id"]) == (True, "-", 'e="1" \\')
    assert tail.read() == []


def test_log_tail_skips_older_lines(tmp_path: Path, write: Write) -> None:
    write(event_id="old")
    tail = IngestLogTail(tmp_path / "app.log", BEFORE)
    write(event_id="new")
    assert [webhook.details["event_id"] for webhook in tail.read()] == ["new"]


def test_log_tail_skips_an_older_line_that_is_written_late(tmp_path: Path, write: Write) -> None:
    tail = IngestLogTail(tmp_path / "app.log", datetime.now(UTC) + timedelta(minutes=1))
    write(event_id="late")
    assert tail.read() == []


def test_log_tail_skips_lines_of_other_services_and_incomplete_lines(tmp_path: Path, write: Write) -> None:
    tail = IngestLogTail(tmp_path / "app.log", BEFORE)
    write("gateway", event_id="1")
    write(event_id="2")
    whole = (tmp_path / "app.log").read_bytes()
    (tmp_path / "app.log").write_bytes(whole[:-5])
    assert tail.read() == []
    (tmp_path / "app.log").write_bytes(whole)
    assert [webhook.details["event_id"] for webhook in tail.read()] == ["2"]


def test_log_tail_reads_a_rotated_log_from_its_beginning(tmp_path: Path, write: Write) -> None:
    write(event_id="old", type="a.rather.long.type")
    tail = IngestLogTail(tmp_path / "app.log", BEFORE)
    (tmp_path / "app.log").replace(tmp_path / "app.log.1")
    write(event_id="new")
    assert [webhook.details["event_id"] for webhook in tail.read()] == ["new"]
