"""The table of the opening scene."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from safevideo_devstack.run.scene.stage import Played

_STYLES: Final = {"applied": "green", "duplicate": "cyan", "stale": "yellow", "ignored": "dim"}
_OTHER_STYLE: Final = "red"


def table_of(scene: Sequence[Played]) -> Table:
    """A row for each webhook: what it was, what was answered, what became of it."""
    table = Table(title="The first webhooks, and what became of them", title_justify="left")
    for heading in ("#", "event", "performer", "what it is", "answer", "became"):
        table.add_column(heading, overflow="fold")
    for number, each in enumerate(scene, start=1):
        webhook = each.webhook
        became = Text(each.outcome, style=_STYLES.get(each.outcome, _OTHER_STYLE))
        table.add_row(str(number), webhook.event, webhook.performer, webhook.about, each.answer, became)
    return table
