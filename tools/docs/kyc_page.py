"""The generator of `docs/kyc.md`, the state machine of a KYC request: `make kyc-page` runs it."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from safevideo_common.domain.kyc import (
    FINAL_REASONS,
    TRANSITIONS,
    KycRequest,
    KycRules,
    KycStatus,
    RejectionReason,
    Trigger,
    VerificationResult,
    decide,
    decide_manually,
)
from safevideo_common.domain.ordering import WriteVersion

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
A request in review ends too once a later request is verified.
[ADR 27](adr/0027-kyc-expiry-and-the-place-of-decisions.md) has the reasons.

A rejected or expired request is **superseded** once the performer submits again, or once a later request is verified.
What Sharegram reports late is shown, and changes its status as this table says:

| late result | `rejected` becomes | `expired` becomes | later requests of the performer |
| --- | --- | --- | --- |
{late}
"""

LATE: Final = (("passed", 95.0), ("review", None), ("failed", 5.0))
_REQUEST: Final = KycRequest(1, "sg_ada", "ver_1", KycStatus.IN_PROGRESS)


def kyc_page() -> str:
    """Return the page. Transitions are in the order of their statuses."""
    order = list(KycStatus)
    found = sorted(TRANSITIONS, key=lambda each: (order.index(each.before), order.index(each.after), each.trigger))
    return PAGE.format(
        arrows="\n".join(f"    {each.before} --> {each.after}: {each.trigger}" for each in found),
        rows="\n".join(f"| `{each.before}` | `{each.after}` | {CAUSES[each.trigger]} |" for each in found),
        late="\n".join(_late_row(*each) for each in LATE),
        final=_names(reason for reason in RejectionReason if reason in FINAL_REASONS),
        others=_names(reason for reason in RejectionReason if reason not in FINAL_REASONS),
    )


def _late_row(result_status: str, risk_score: float | None) -> str:
    """Return what a late result does to a superseded request, as the rule decides it."""
    result = VerificationResult("sg_ada", result_status, risk_score, {}, WriteVersion(3, 30), reported_failed=False)
    passed = VerificationResult("sg_ada", "passed", 90.0, {}, WriteVersion(1, 10), reported_failed=False)
    failed = VerificationResult("sg_ada", "failed", 9.0, {}, WriteVersion(1, 10), reported_failed=True)
    rules = KycRules()
    rejected, _ = decide(_REQUEST, failed, rules)
    expired = decide_manually(decide(_REQUEST, passed, rules)[0], KycStatus.EXPIRED, 20, rules)
    after = [decide(replace(each, superseded_by=2), result, rules)[0].status for each in (rejected, expired)]
    before_a_person = "before a reviewer, if the earlier result was `passed`"
    return (
        f"| `{result_status}` | `{after[0]}` | `{after[1]}` | {before_a_person if result_status == 'failed' else '-'} |"
    )


def _names(reasons: Iterable[RejectionReason]) -> str:
    return ", ".join(f"`{reason}`" for reason in reasons)


if __name__ == "__main__":
    sys.stdout.write(kyc_page())
