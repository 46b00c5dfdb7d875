"""Whatever is sent: no 5xx, no 2xx but for a right signature, and nothing in the log that was not signed.

`make fuzz` sends more of the same. Each test says what its kind of request may lead to, and `FuzzedDoor.ask` judges.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from safevideo_testkit.fuzz.cases import KINDS, Case
from safevideo_testkit.fuzz.ingest import FuzzedDoor, fuzzed_door

FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SOME = settings(FEW, max_examples=120)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedDoor]:
    with fuzzed_door(tmp_path_factory.mktemp("fuzzed")) as door:
        yield door


@FEW
@given(case=KINDS["noise"])
def test_bytes_are_refused(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)


@SOME
@given(case=KINDS["unsigned"])
def test_a_request_without_a_right_signature_is_refused(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)


@FEW
@given(case=KINDS["good"])
def test_a_good_webhook_is_taken_byte_for_byte_in_either_scheme(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)


@SOME
@given(case=KINDS["forged"])
def test_a_good_webhook_with_one_thing_changed_is_refused(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)


@SOME
@given(case=KINDS["signed-bodies"])
def test_any_body_under_a_right_signature_is_taken_as_it_is_or_refused(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)


@FEW
@given(case=KINDS["bent"])
def test_a_request_that_was_changed_anywhere_brings_nothing_unsigned_into_the_log(door: FuzzedDoor, case: Case) -> None:
    door.ask(case)
