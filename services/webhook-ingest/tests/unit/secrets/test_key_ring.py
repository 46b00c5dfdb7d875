"""The key ring, without a database."""

import asyncio
from datetime import UTC, datetime, timedelta

from safevideo_common.webhooks.signatures import WebhookSecret
from webhook_ingest.secrets import KeyRing, StoredSecret

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENVIRONMENT = WebhookSecret("env-0a1b2c", b"the-secret-of-the-environment")
NEW = WebhookSecret("new", b"the-new-secret")
OLD = WebhookSecret("old", b"the-old-secret")


def test_key_ring_starts_with_secrets_of_environment() -> None:
    assert KeyRing([ENVIRONMENT]).active_at(NOW) == (ENVIRONMENT,)


def test_key_ring_returns_stored_secrets_first() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.replace([StoredSecret(2, NEW, None), StoredSecret(1, OLD, None)], NOW)
    assert ring.active_at(NOW) == (NEW, OLD, ENVIRONMENT)


def test_key_ring_returns_same_tuple_each_time() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.replace([StoredSecret(2, NEW, NOW + SECOND)], NOW)
    assert ring.active_at(NOW) is ring.active_at(NOW)


def test_key_ring_leaves_out_expired_secrets_without_refresh() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.replace([StoredSecret(2, NEW, NOW + 2 * SECOND), StoredSecret(1, OLD, NOW + SECOND)], NOW)
    before = NOW + SECOND - timedelta(microseconds=1)
    assert ring.active_at(before) == (NEW, OLD, ENVIRONMENT)
    assert ring.active_at(NOW + SECOND) == (NEW, ENVIRONMENT)
    assert ring.active_at(NOW + 2 * SECOND) == (ENVIRONMENT,)
    assert ring.active_at(before) == (ENVIRONMENT,)  # a clock that was set back restores nothing
    assert (ring.get(1), ring.get(2)) == (None, None)


def test_key_ring_ignores_expired_secrets() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.replace([StoredSecret(1, OLD, NOW)], NOW)
    assert ring.active_at(NOW - SECOND) == (ENVIRONMENT,)


def test_key_ring_replaces_stored_secrets() -> None:
    ring = KeyRing([ENVIRONMENT])
    ring.replace([StoredSecret(1, OLD, NOW + SECOND)], NOW)
    ring.replace([StoredSecret(2, NEW, None)], NOW)
    assert ring.active_at(NOW + SECOND) == (NEW, ENVIRONMENT)


async def test_key_ring_returns_last_use_of_each_secret_once() -> None:
    ring = KeyRing([ENVIRONMENT])
    for seconds in range(3):
        ring.record_use(NEW, NOW + seconds * SECOND)
    ring.record_use(ENVIRONMENT, NOW)
    await asyncio.wait_for(ring.wait_for_uses(), 5)
    assert ring.take_uses() == {"new": NOW + 2 * SECOND, "env-0a1b2c": NOW}
    assert ring.take_uses() == {}


async def test_key_ring_keeps_later_uses_when_uses_are_restored() -> None:
    ring = KeyRing([])
    ring.record_use(NEW, NOW)
    ring.record_use(OLD, NOW)
    uses = ring.take_uses()
    ring.record_use(NEW, NOW + SECOND)
    ring.restore_uses(uses)
    await asyncio.wait_for(ring.wait_for_uses(), 5)
    assert ring.take_uses() == {"new": NOW + SECOND, "old": NOW}


def test_key_ring_recognizes_names_of_environment() -> None:
    ring = KeyRing([ENVIRONMENT])
    assert ring.is_from_environment("env-0a1b2c")
    assert not ring.is_from_environment("new")
