"""Each type of webhook is in every file of the recipe in CONTRIBUTING.md."""

import runpy
from pathlib import Path

import pytest

from safevideo_common.events.topics import CONSUMED, TOPIC_BY_TYPE
from safevideo_testkit.oracle import stream
from sharegram_simulator import webhooks

ROOT = Path(__file__).parents[2]
WORKER_OF = {topic: group for group, topics in CONSUMED.items() for topic in topics}


@pytest.mark.parametrize("event_type", TOPIC_BY_TYPE)
def test_type_is_in_every_file_that_knows_types(event_type: str) -> None:
    worker = f"services/{WORKER_OF[TOPIC_BY_TYPE[event_type]]}"
    pages = ("docs/contract.md", f"{worker}/README.md")
    has_type = {page: f"`{event_type}`" in (ROOT / page).read_text() for page in pages}
    has_type["tools/docs/asyncapi.py: BODIES"] = (
        event_type in runpy.run_path(str(ROOT / "tools/docs/asyncapi.py"))["BODIES"]
    )
    has_type["safevideo_testkit/oracle/stream.py: TYPES"] = event_type in stream.TYPES
    has_type["sharegram_simulator/webhooks.py: TYPES"] = event_type in webhooks.TYPES
    assert [name for name, is_there in has_type.items() if not is_there] == []
