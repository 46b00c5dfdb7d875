"""The outcome of an identity verification."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

VerdictStatus = Literal["passed", "review", "failed"]

USUAL_SCORES: Final[Mapping[VerdictStatus, float]] = {"passed": 92, "review": 65, "failed": 18}
OUTCOMES: Final[Mapping[VerdictStatus, str]] = {"passed": "passed", "review": "unclear", "failed": "failed"}
CHECKS: Final = ("documentAuthenticity", "faceMatch", "ageCheck")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`risk_score` runs from 0 to 100, higher is safer."""

    status: VerdictStatus
    risk_score: float
    checks: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """`result` of the webhook and of the API."""
        return {"status": self.status, "riskScore": self.risk_score, "checks": self.checks}


def reach(status: VerdictStatus, risk_score: float | None) -> Verdict:
    """A verdict in which every check came out alike; with the score usual for it when none is given."""
    score = USUAL_SCORES[status] if risk_score is None else risk_score
    return Verdict(status, score, dict.fromkeys(CHECKS, OUTCOMES[status]))
