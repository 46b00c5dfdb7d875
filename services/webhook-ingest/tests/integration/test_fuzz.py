"""For any request: no 5xx, no 2xx without a valid signature, and nothing unsigned is published.

`make fuzz` sends more of the same. `FuzzedIngest.send` checks each case.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from safevideo_testkit.fuzz.cases import KINDS, Case
from safevideo_testkit.fuzz.ingest import FuzzedIngest, fuzzed_ingest

FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SOME = settings(FEW, max_examples=120)


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedIngest]:
    with fuzzed_ingest(tmp_path_factory.mktemp("fuzzed")) as ingest:
        yield ingest


@FEW
@given(case=KINDS["noise"])
def test_ingest_rejects_random_bytes(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)


@SOME
@given(case=KINDS["unsigned"])
def test_ingest_rejects_unsigned_requests(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)


@FEW
@given(case=KINDS["good"])
def test_ingest_accepts_good_webhooks_of_both_schemes(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)


@SOME
@given(case=KINDS["forged"])
def test_ingest_rejects_forged_webhooks(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)


@SOME
@given(case=KINDS["signed-bodies"])
def test_ingest_publishes_signed_bodies_unchanged_or_rejects_them(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)


@FEW
@given(case=KINDS["bent"])
def test_ingest_publishes_nothing_unsigned_from_changed_requests(ingest: FuzzedIngest, case: Case) -> None:
    ingest.send(case)
