"""The table of stages stays true while code moves."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from stages import CODE, HTTP, METRICS, PUBLISH, REST, STAGES, shares, stage_of

TREE = Path(__file__).parents[2]
OURS = [path for folder in ("libs", "services") for path in TREE.glob(f"{folder}/*/src/**/*.py")]
PARTS = [part for parts in CODE.values() for part in parts]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_names_code_that_is_there(part: str) -> None:
    path, _, function = part.partition(":")
    assert any(path in str(each) and f"def {function}" in each.read_text() for each in OURS) or find_spec(
        path.partition("/")[0]
    )


def test_a_librarys_frame_belongs_to_whoever_called_it() -> None:
    handler = "/src/webhook_ingest/api.py:_take"
    assert stage_of([handler, "/lib/site-packages/aiokafka/client.py:send", "/lib/struct.py:pack"]) == PUBLISH
    assert stage_of(["/lib/site-packages/aiohttp/web_protocol.py:start", "/lib/enum.py:__call__"]) == HTTP
    assert stage_of([handler, "/lib/site-packages/prometheus_client/metrics.py:observe"]) == METRICS
    assert stage_of(["/lib/asyncio/runners.py:run"]) == REST


def test_the_shares_of_all_stages_are_one(tmp_path: Path) -> None:
    folded = tmp_path / "samples"
    folded.write_text("a.py:x;/aiohttp/web.py:y 3\na.py:x 1\n")
    assert shares(folded) == dict.fromkeys(STAGES, 0) | {HTTP: 0.75, REST: 0.25}
