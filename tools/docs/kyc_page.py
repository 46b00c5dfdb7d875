"""The generator of `docs/kyc.md`, the state machine of a KYC request: `make kyc-page` runs it."""

import sys
from collections.abc import Iterable
from typing import Final

from safevideo_common.domain.kyc import FINAL_REASONS, TRANSITIONS, KycStatus, RejectionReason, Trigger

CAUSES: Final = {
    Trigger.DOCUMENTS: "the last required document is there",
    Trigger.RESULT: "a result of Sharegram, or its correction",
    Trigger.FAILURE: "Sharegram cannot verify the request",
    Trigger.PERSON: "a reviewer decides",
    Trigger.CLOCK: "time",
}
"""A trigger in plain words."""

PAGE: Final = """\
# KYC requests

The state machine of a request. `make kyc-page` writes this page from
`libs/common/src/safevideo_common/domain/kyc.py`; change that file.

```mermaid
stateDiagram-v2
    [*] --> pending: submitted
{arrows}
```

| from | to | cause |
| --- | --- | --- |
{rows}

A rejection for {final} is final: a new request needs an administrator who reopens it.
After {others} the person may submit again at once. [ADR 22](adr/0022-kyc-requests.md) has the reasons.

Time ends a verified request with its identity document, or after `KYC_VALIDITY_DAYS`, or once a later request of the
performer is verified; and a pending one whose documents do not come within `KYC_PENDING_DAYS`.
[ADR 27](adr/0027-kyc-expiry-and-the-place-of-decisions.md) has the reasons.
"""


def kyc_page() -> str:
    """Return the page. Transitions are in the order of their statuses."""
    order = list(KycStatus)
    found = sorted(TRANSITIONS, key=lambda each: (order.index(each.before), order.index(each.after), each.trigger))
    return PAGE.format(
        arrows="\n".join(f"    {each.before} --> {each.after}: {each.trigger}" for each in found),
        rows="\n".join(f"| `{each.before}` | `{each.after}` | {CAUSES[each.trigger]} |" for each in found),
        final=_names(reason for reason in RejectionReason if reason in FINAL_REASONS),
        others=_names(reason for reason in RejectionReason if reason not in FINAL_REASONS),
    )


def _names(reasons: Iterable[RejectionReason]) -> str:
    return ", ".join(f"`{reason}`" for reason in reasons)


if __name__ == "__main__":
    sys.stdout.write(kyc_page())
