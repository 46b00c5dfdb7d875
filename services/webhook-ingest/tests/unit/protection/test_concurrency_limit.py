"""The bound on webhooks in flight."""

import pytest

from safevideo_common.errors import Overloaded
from webhook_ingest.protection.limits import WebhookConcurrencyLimit


def test_concurrency_limit_rejects_only_at_the_limit() -> None:
    in_flight = WebhookConcurrencyLimit(2)
    with in_flight:
        with in_flight, pytest.raises(Overloaded) as error, in_flight:
            pass
        with in_flight:
            assert in_flight.count == 2
    assert in_flight.count == 0
    assert error.value.retry_after == 1


def test_concurrency_limit_releases_failed_webhook() -> None:
    in_flight = WebhookConcurrencyLimit(1)
    with pytest.raises(ZeroDivisionError), in_flight:
        raise ZeroDivisionError
    assert in_flight.count == 0
