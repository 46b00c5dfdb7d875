"""For any record in the topic: the worker gets past it, and it has a row. `make fuzz` takes more of the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safevideo_common.broker.types import Record
from safevideo_testkit.fuzz.records import FuzzedProcessor, fuzzed_processor, hostile_records
from safevideo_testkit.stacks import MIGRATED

FIXTURE = HealthCheck.function_scoped_fixture  # the examples share a database on purpose


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def processor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FuzzedProcessor]:
    with fuzzed_processor(tmp_path, request.getfixturevalue(MIGRATED[request.param])) as processor:
        yield processor


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[FIXTURE])
@given(records=st.lists(hostile_records, min_size=1, max_size=4))
def test_worker_gets_past_any_record(processor: FuzzedProcessor, records: Sequence[Record]) -> None:
    processor.process(records)
