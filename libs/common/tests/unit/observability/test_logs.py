"""What operators grep: the fifth column, a line that nothing can forge, and no secret in either form."""

import logging
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from safevideo_common.observability.logs import (
    REPEAT_SECONDS,
    FilteringBoundLogger,
    LogSink,
    build_logger,
    capture_stdlib,
)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[LogSink]:
    sink = LogSink(tmp_path, stdout=False)
    yield sink
    sink.close()


@pytest.fixture
def log(sink: LogSink) -> FilteringBoundLogger:
    return build_logger("gateway", sink)


def lines(folder: Path, name: str = "app.log") -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def test_text_line_has_date_time_level_service_code_message_and_pairs(
    log: FilteringBoundLogger, sink: LogSink, tmp_path: Path
) -> None:
    log.warning("Cache away", code="CACHE_UNAVAILABLE", tries=3, where="a b")
    sink.flush()
    (line,) = lines(tmp_path)
    date, time, *rest = line.split(" ")
    assert (len(date), time[-1]) == (10, "Z")
    assert " ".join(rest) == 'WARNING gateway CACHE_UNAVAILABLE Cache away tries=3 where="a b"'


def test_text_line_without_a_code_has_a_dash_in_the_fifth_column(
    log: FilteringBoundLogger, sink: LogSink, tmp_path: Path
) -> None:
    log.info("Service started")
    sink.flush()
    assert lines(tmp_path)[0].split()[4] == "-"


def test_error_line_is_written_at_once_and_to_error_log_too(log: FilteringBoundLogger, tmp_path: Path) -> None:
    log.error("Event is dead", code="BODY_INVALID")
    assert lines(tmp_path) == lines(tmp_path, "error.log")
    assert len(lines(tmp_path)) == 1


def test_stream_lines_go_to_their_file_too(log: FilteringBoundLogger, sink: LogSink, tmp_path: Path) -> None:
    log.bind(stream="sync").info("sync failed", code="SYNC")
    log.info("another")
    sink.flush()
    assert [len(lines(tmp_path, name)) for name in ("app.log", "sync.log", "audit.log")] == [2, 1, 0]
    assert "stream" not in lines(tmp_path, "sync.log")[0]


@pytest.mark.parametrize("value", ["a\n2026-11-24 12:00:00Z ERROR x FORGED", 'a" code=FORGED b="', "a=b", "\x1b[2J"])
def test_text_line_escapes_values_that_could_forge_a_line_or_a_key(
    log: FilteringBoundLogger, sink: LogSink, tmp_path: Path, value: str
) -> None:
    log.info("Request answered", path=value)
    sink.flush()
    (line,) = lines(tmp_path)
    assert line.split(" path=")[1] == orjson.dumps(value).decode()


@pytest.mark.parametrize("key", ["email", "api_key", "webhook_secret", "access_token", "authorization", "document_id"])
def test_value_of_a_secret_key_is_redacted(log: FilteringBoundLogger, sink: LogSink, tmp_path: Path, key: str) -> None:
    for _ in range(2):  # also once the key was seen before
        log.info("x", **{key: "the value"})
    sink.flush()
    assert "the value" not in "".join(lines(tmp_path))


def test_line_below_the_level_is_not_written(sink: LogSink, tmp_path: Path) -> None:
    build_logger("gateway", sink, "WARNING").info("quiet")
    sink.flush()
    assert lines(tmp_path) == []


def test_full_buffer_is_written_without_an_event_loop(log: FilteringBoundLogger, tmp_path: Path) -> None:
    for number in range(1000):
        log.info("x", number=number)
    assert len(lines(tmp_path)) >= 750


def test_reopen_writes_to_a_new_file_after_a_rotation(log: FilteringBoundLogger, sink: LogSink, tmp_path: Path) -> None:
    log.error("before")
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    sink.reopen()
    log.error("after")
    assert "before" in lines(tmp_path, "app.log.1")[0]
    assert "after" in lines(tmp_path)[0]


def test_unwritable_folder_loses_lines_without_an_error(
    log: FilteringBoundLogger, sink: LogSink, tmp_path: Path
) -> None:
    (tmp_path / "app.log").unlink()
    (tmp_path / "app.log").mkdir()
    sink.reopen()
    log.error("lost")


@pytest.fixture
def stdlib_clock(log: FilteringBoundLogger) -> Iterator[list[float]]:
    """Capture what libraries log. Its one item is the present second."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    clock = [0.0]
    capture_stdlib(log, now=lambda: clock[0])
    yield clock
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("stdlib_clock")
def test_library_line_has_no_text_of_its_exception(tmp_path: Path) -> None:
    logging.getLogger("aiokafka").error("Heartbeat failed", exc_info=ValueError("a secret of the event"))
    (line,) = lines(tmp_path)
    assert line.endswith("ERROR gateway LIBRARY_ERROR Heartbeat failed logger=aiokafka error=ValueError")


def test_library_line_that_repeats_is_written_once_in_a_while_with_its_count(
    stdlib_clock: list[float], tmp_path: Path
) -> None:
    library = logging.getLogger("aiokafka")
    for _ in range(500):
        library.error("Unable connect to node with id %s", 1)
        library.error("Unable connect to node with id %s", 2)
    stdlib_clock[0] += REPEAT_SECONDS
    library.error("Unable connect to node with id %s", 1)
    first, second, again = lines(tmp_path)
    assert "id 1" in first
    assert "id 2" in second
    assert again.endswith("Unable connect to node with id 1 logger=aiokafka repeated=499")
