"""The program of `docs/consume-our-changes.md`, as it is written there, on a real Kafka."""

import asyncio
import json
import os
import re
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from safevideo_common.broker.open import open_broker
from safevideo_common.events.change_events import Cause, PerformerChange, performer_changed
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import all_topics
from safevideo_testkit.eventually import eventually

PAGE = Path(__file__).parents[2] / "docs" / "consume-our-changes.md"
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def program() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)


def copied(folder: Path, performer: str) -> dict[str, object]:
    if not (folder / "copy.db").exists():
        return {}
    try:
        with sqlite3.connect(folder / "copy.db") as copy:
            rows = copy.execute("SELECT name, value FROM fields WHERE performer = ?", (performer,)).fetchall()
    except sqlite3.OperationalError:  # not made yet, or being written
        return {}
    finally:
        copy.close()
    return {name: json.loads(value) for name, value in rows}


async def test_the_program_of_the_page_ends_with_our_values(kafka_bootstrap_servers: str, tmp_path: Path) -> None:
    performer = f"sg_{uuid4().hex}"

    def change(number: int, **fields: object) -> PerformerChange:
        return PerformerChange(performer, fields, number, number, AT, Cause(f"evt-{number}", "a.type"))

    first, second = change(1, displayName="Ada", bio="Dances."), change(2, displayName="Ada Bright", bio=None)
    last = change(3, verified=True)
    async with open_broker(kafka_bootstrap_servers, None) as broker:
        await broker.create_topics(all_topics())
        async with broker.producer("test") as producer:
            for each in (first, second, first, last):  # the repeat comes late
                envelope = Envelope(each.caused_by.id, each.caused_by.type, AT, performer)
                await producer.publish(performer_changed(envelope, each))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program()),
        cwd=tmp_path,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers},
    )
    expected = {"displayName": "Ada Bright", "bio": None, "verified": True}
    try:
        await eventually(lambda: asyncio.to_thread(lambda: copied(tmp_path, performer) == expected))
    finally:
        process.terminate()
        await process.wait()
