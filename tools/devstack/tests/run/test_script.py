from datetime import UTC, datetime

from safevideo_devstack.run.demo import DemoData, demo_webhooks

SCENE = demo_webhooks(DemoData(datetime.now(UTC)))


def test_the_scene_shows_about_ten_webhooks_of_three_performers() -> None:
    assert len(SCENE) == 11
    assert len({webhook.performer for webhook in SCENE}) == 3


def test_one_is_sent_twice_one_is_forged_and_one_comes_late() -> None:
    (repeated,) = (webhook for webhook in SCENE if webhook.repeated)
    assert [webhook.id for webhook in SCENE].count(repeated.id) == 2
    assert sum(webhook.forged for webhook in SCENE) == 1
    (late,) = (place for place, webhook in enumerate(SCENE) if webhook.about.startswith("late"))
    assert SCENE[late].at < SCENE[late - 1].at


def test_a_second_scene_is_about_other_performers_and_events() -> None:
    again = demo_webhooks(DemoData(datetime.now(UTC)))
    assert not {webhook.id for webhook in SCENE} & {webhook.id for webhook in again}
    assert not {webhook.performer for webhook in SCENE} & {webhook.performer for webhook in again}
