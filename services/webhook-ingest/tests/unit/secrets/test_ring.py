"""The set that requests read, without a database."""

import asyncio
from datetime import UTC, datetime, timedelta

from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_testkit.eventually import DEADLINE_SECONDS
from webhook_ingest.secrets import KeyRing, StoredSecret

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENVIRONMENT = WebhookSecret("env-0a1b2c", b"the-secret-of-the-environment")
NEW = WebhookSecret("new", b"the-new-secret")
OLD = WebhookSecret("old", b"the-old-secret")


def test_before_anything_was_read_the_environment_counts() -> None:
    assert KeyRing([ENVIRONMENT]).at(NOW) == (ENVIRONMENT,)


def test_what_the_database_keeps_comes_first() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.hold([StoredSecret(2, NEW, None), StoredSecret(1, OLD, None)], NOW)
    assert ring.at(NOW) == (NEW, OLD, ENVIRONMENT)


def test_reading_the_set_makes_nothing_new() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.hold([StoredSecret(2, NEW, NOW + SECOND)], NOW)
    assert ring.at(NOW) is ring.at(NOW)


def test_each_secret_drops_out_at_its_time_without_a_refresh() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.hold([StoredSecret(2, NEW, NOW + 2 * SECOND), StoredSecret(1, OLD, NOW + SECOND)], NOW)
    before = NOW + SECOND - timedelta(microseconds=1)
    assert ring.at(before) == (NEW, OLD, ENVIRONMENT)
    assert ring.at(NOW + SECOND) == (NEW, ENVIRONMENT)
    assert ring.at(NOW + 2 * SECOND) == (ENVIRONMENT,)
    assert ring.at(before) == (ENVIRONMENT,)  # a clock that was set back brings nothing back
    assert (ring.held(1), ring.held(2)) == (None, None)


def test_what_is_expired_already_is_not_held() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.hold([StoredSecret(1, OLD, NOW)], NOW)
    assert ring.at(NOW - SECOND) == (ENVIRONMENT,)


def test_a_new_set_replaces_the_old_one() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.hold([StoredSecret(1, OLD, NOW + SECOND)], NOW)
    ring.hold([StoredSecret(2, NEW, None)], NOW)
    assert ring.at(NOW + SECOND) == (NEW, ENVIRONMENT)


async def test_the_last_use_of_each_secret_is_taken_once() -> None:
    ring = KeyRing([ENVIRONMENT])
    for seconds in range(3):
        ring.note_use(NEW, NOW + seconds * SECOND)
    ring.note_use(ENVIRONMENT, NOW)
    await asyncio.wait_for(ring.is_used(), DEADLINE_SECONDS)
    assert ring.take_uses() == {"new": NOW + 2 * SECOND, "env-0a1b2c": NOW}
    assert ring.take_uses() == {}


async def test_uses_that_are_given_back_do_not_hide_later_ones() -> None:
    ring = KeyRing([])
    ring.note_use(NEW, NOW)
    ring.note_use(OLD, NOW)
    taken = ring.take_uses()
    ring.note_use(NEW, NOW + SECOND)
    ring.give_back(taken)
    await asyncio.wait_for(ring.is_used(), DEADLINE_SECONDS)
    assert ring.take_uses() == {"new": NOW + SECOND, "old": NOW}


def test_it_knows_which_names_are_of_the_environment() -> None:
    ring = KeyRing([ENVIRONMENT])
    assert ring.is_of_environment("env-0a1b2c")
    assert not ring.is_of_environment("new")
