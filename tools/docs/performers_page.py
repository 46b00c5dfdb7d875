"""The generator of `docs/performers.md`, the statuses of a performer: `make performers-page` runs it."""

import sys
from typing import Final

from safevideo_common.domain.performer_status import AWAITING_APPROVAL, TRANSITIONS, PerformerStatus

PAGE: Final = """\
# The status of a performer

What a person may decide. `make performers-page` writes this page from
`libs/common/src/safevideo_common/domain/performer_status.py`; change that file.

```mermaid
stateDiagram-v2
    [*] --> pending: created
{arrows}
```

| from | to |
| --- | --- |
{rows}

A suspension with a duration ends by itself; the decision before it stands again. {waiting} wait for an approval.
Sharegram may set any status. It ends a decision if it is newer and says something else:
[ADR 25](adr/0025-decisions-about-performers.md) has the rule.
"""


def performers_page() -> str:
    """Return the page. Transitions are in the order of their statuses."""
    found = [(before, after) for before in PerformerStatus for after in PerformerStatus if after in TRANSITIONS[before]]
    return PAGE.format(
        arrows="\n".join(f"    {before} --> {after}" for before, after in found),
        rows="\n".join(
            f"| `{before}` | {', '.join(f'`{after}`' for first, after in found if first is before)} |"
            for before in PerformerStatus
        ),
        waiting=" and ".join(f"`{status}`" for status in AWAITING_APPROVAL),
    )


if __name__ == "__main__":
    sys.stdout.write(performers_page())
