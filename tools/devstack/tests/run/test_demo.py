from datetime import UTC, datetime

from safevideo_devstack.run.demo import DemoData, demo_webhooks

WEBHOOKS = demo_webhooks(DemoData(datetime.now(UTC)))


def test_demo_has_eleven_webhooks_of_three_performers() -> None:
    assert len(WEBHOOKS) == 11
    assert len({webhook.performer for webhook in WEBHOOKS}) == 3


def test_demo_has_a_repeated_a_forged_and_a_late_webhook() -> None:
    (repeated,) = (webhook for webhook in WEBHOOKS if webhook.repeated)
    assert [webhook.id for webhook in WEBHOOKS].count(repeated.id) == 2
    assert sum(webhook.forged for webhook in WEBHOOKS) == 1
    (late,) = (index for index, webhook in enumerate(WEBHOOKS) if webhook.about.startswith("late"))
    assert WEBHOOKS[late].at < WEBHOOKS[late - 1].at


def test_second_demo_has_other_performers_and_events() -> None:
    again = demo_webhooks(DemoData(datetime.now(UTC)))
    assert not {webhook.id for webhook in WEBHOOKS} & {webhook.id for webhook in again}
    assert not {webhook.performer for webhook in WEBHOOKS} & {webhook.performer for webhook in again}
