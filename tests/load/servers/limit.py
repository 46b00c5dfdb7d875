"""The limit of a worker: `getmany`, then a transaction of the same bulk statements with ready-made rows, no logic."""

import json
import os
import sys
from datetime import datetime
from typing import Final

import aiomysql
import uvloop
from aiokafka import AIOKafkaConsumer
from payloads import Keys, event_id
from sqlalchemy.engine import make_url

BATCH: Final = 500
NOW: Final = datetime(2026, 11, 24, 12)  # noqa: DTZ001 - columns hold UTC without a zone

INBOX: Final = (
    "INSERT INTO event_inbox (consumer_group, event_id, event_type, performer_id, source_topic, source_partition,"
    " source_offset, last_offset, occurred_at, received_at, decided_at, status, reason, tries, next_try_at,"
    " request_id, payload)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
PERFORMERS: Final = (
    "INSERT INTO performers (sharegram_id, username, display_name, email, profile_image, bio, verified, status,"
    " field_versions, created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON DUPLICATE KEY UPDATE username = VALUES(username), display_name = VALUES(display_name), email = VALUES(email),"
    " profile_image = VALUES(profile_image), bio = VALUES(bio), verified = VALUES(verified), status = VALUES(status),"
    " field_versions = VALUES(field_versions), updated_at = VALUES(updated_at)"
)
OUTBOX: Final = "INSERT INTO outbox (topic, message_key, headers, payload, created_at) VALUES (%s, %s, %s, %s, %s)"
HEADERS: Final = b"h" * 280
PAYLOAD: Final = b"p" * 900
STAMP: Final = (50000, 1764000000000000)
STAMPS: Final = json.dumps(dict.fromkeys(("username", "display_name", "bio", "verified"), STAMP))


async def main(events: int, keys: Keys) -> None:
    url = make_url(os.environ["DATABASE_URL"])
    inbox = [_inbox_row(number, keys) for number in range(events)]
    outbox = [_outbox_row(number, keys) for number in range(events)]
    performers = {f"sg_{number}".encode(): _performer_row(number) for number in range(keys.count)}
    database = await aiomysql.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, db=url.database, charset="utf8mb4"
    )
    consumer = AIOKafkaConsumer(
        "sharegram.performer.v1",
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=f"limit-{os.getpid()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    done = 0
    while done < events:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        records = [record for some in fetched.values() for record in some]
        if records:
            async with database.cursor() as cursor:
                await cursor.executemany(INBOX, inbox[done : done + len(records)])
                found = {record.key for record in records}
                await cursor.executemany(PERFORMERS, [performers[key] for key in found])
                await cursor.executemany(OUTBOX, outbox[done : done + len(records)])
            await database.commit()
            await consumer.commit()
            done += len(records)
    await consumer.stop()
    database.close()


def _inbox_row(number: int, keys: Keys) -> tuple[object, ...]:
    place = ("sharegram.performer.v1", number % 12, number, number)
    event = ("sync-worker", event_id(number), "performer.profile.updated", keys.of(number))
    return (*event, *place, NOW, NOW, NOW, "applied", None, 0, None, "request", None)


def _performer_row(number: int) -> tuple[object, ...]:
    profile = (f"user-{number}", f"Name {number}", None, None, "b" * 760, True, "pending")
    return (f"sg_{number}", *profile, STAMPS, NOW, NOW)


def _outbox_row(number: int, keys: Keys) -> tuple[object, ...]:
    return ("integration.events.v1", keys.of(number).encode(), HEADERS, PAYLOAD, NOW)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Keys(int(sys.argv[2]), hot=sys.argv[3] == "hot")))
