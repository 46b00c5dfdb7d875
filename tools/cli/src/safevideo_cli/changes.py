"""`safevideo changes tail`: what other systems are told of, as it is published. It changes nothing, in Kafka either."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from safevideo_cli.options import AsJson, From
from safevideo_cli.output import format_second, print_json_text, print_lines
from safevideo_cli.topics import open_kafka
from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import Record
from safevideo_common.events.bodies import SCHEMA_MISMATCH
from safevideo_common.events.topics import CHANGES

app = typer.Typer(no_args_is_help=True)

POLL_SECONDS = 0.5
RECORDS_PER_READ = 500


@app.callback()
def changes() -> None:
    """Follow what changes here."""


@app.command()
def tail(
    since: From = None,
    performer: Annotated[str | None, typer.Option(help="Sharegram's id of the performer.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many changes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print each change of integration.events.v1, until Ctrl-C; from now on, or since a time. It is personal data.

    It belongs to no consumer group, so no other reader gets less. Needs Kafka.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_tail(since, performer, count, as_json=as_json))


async def _tail(since: datetime | None, performer: str | None, count: int | None, *, as_json: bool) -> None:
    printed = 0
    async with open_kafka() as broker, broker.reader("safevideo-cli") as reader:
        async for record in _follow(reader, since):
            if performer is not None and record.key != performer.encode():
                continue
            _print(record, as_json=as_json)
            printed += 1
            if printed == count:
                return


async def _follow(reader: Reader, since: datetime | None) -> AsyncIterator[Record]:
    if since is None:
        offsets = dict(await reader.end_offsets(CHANGES))
    else:
        offsets = dict(await reader.offsets_for_time(CHANGES, int(since.timestamp() * 1000)))
    while True:
        found = 0
        for partition, offset in sorted(offsets.items()):
            for record in await reader.read(partition, offset, RECORDS_PER_READ):
                offsets[partition], found = record.offset + 1, found + 1
                yield record
        if not found:
            await asyncio.sleep(POLL_SECONDS)


def _print(record: Record, *, as_json: bool) -> None:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    event_type = headers.get("ce_type", "")
    if not as_json:
        body = record.value.decode(errors="replace")
        print_lines(f"{format_second(record.published_at)}  {event_type}  {body}")
        return
    document: dict[str, object] = {"type": event_type, "data": None}
    with suppress(*SCHEMA_MISMATCH):
        parsed: object = msgspec.json.decode(record.value)
        document = {"id": headers.get("ce_id"), "source": headers.get("ce_source"), "type": event_type, "data": parsed}
    print_json_text(msgspec.json.encode(document).decode())
