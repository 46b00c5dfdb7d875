"""`safevideo changes tail` on a real Kafka."""

import asyncio
from datetime import timedelta
from secrets import token_hex

import orjson
import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.events.change_events import Cause, PerformerChange, performer_changed
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import all_topics
from safevideo_testkit.broker_helpers import publish_when_available
from safevideo_testkit.command import run_command


@pytest.mark.kafka
def test_changes_tail_prints_the_changes_of_a_performer_since_a_time(kafka_bootstrap_servers: str) -> None:
    names, now = [f"sg_{token_hex(4)}" for _ in range(2)], utc_now()

    async def publish() -> None:
        broker = KafkaBroker(kafka_bootstrap_servers)
        await broker.create_topics(all_topics())
        async with broker.producer("test") as producer:
            for number, name in enumerate([*names, names[0]]):
                cause = Envelope(f"{name}-{number}", "performer.profile.updated", now, name)
                change = PerformerChange(name, {"bio": f"v{number}"}, number + 1, None, now, Cause.of(cause))
                await publish_when_available(producer, performer_changed(cause, change))

    asyncio.run(publish())
    since = rfc3339(now - timedelta(minutes=1))
    options = ("--since", since, "--performer", names[0], "--count", "2")
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers}
    shown = run_command(["changes", "tail", *options, "--json"], environment)
    assert shown.returncode == 0, shown.stderr
    documents = [orjson.loads(line) for line in shown.stdout.splitlines()]
    assert [each["data"]["changes"] for each in documents] == [{"bio": "v0"}, {"bio": "v2"}]
    assert {each["type"] for each in documents} == {"integration.performer.changed"}
    plain = run_command(["changes", "tail", *options], environment)
    assert plain.stdout.count("integration.performer.changed") == 2
