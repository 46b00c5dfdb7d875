"""What Sharegram sends in the opening scene: ten webhooks and a forged one, about three performers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final

PROFILE: Final = "performer.profile.updated"
STATUS: Final = "performer.status.changed"
VERIFIED: Final = "kyc.verification.completed"
UNKNOWN: Final = "performer.badge.awarded"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One line of the script. `about` says to the audience what it is."""

    about: str
    event: str
    performer: str
    data: Mapping[str, object]
    at: datetime
    id: str
    repeated: bool = False
    """The same event was sent before."""
    forged: bool = False

    def order(self) -> dict[str, object]:
        """As `POST /_sim/webhooks` takes it."""
        data = {"performerId": self.performer, **self.data}
        return {
            "id": self.id, "event": self.event, "timestamp": self.at.isoformat(), "data": data, "forge": self.forged,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cast:
    """New performers each time, so that a scene can be played again on the same database."""

    began: datetime
    tag: str = field(default_factory=lambda: token_hex(3))

    def performer(self, name: str) -> str:
        """Sharegram's id of a performer of this scene."""
        return f"sg_{name}_{self.tag}"

    @property
    def verification(self) -> str:
        """The verification that ends well."""
        return f"ver_{self.tag}"

    def webhook(self, about: str, event: str, name: str, place: int, data: Mapping[str, object]) -> Webhook:
        """`place` is the event's own in the provider's order, whenever it is sent."""
        at = self.began + timedelta(milliseconds=place)
        return Webhook(about, event, self.performer(name), data, at, f"evt_{self.tag}_{place}")


def script(cast: Cast) -> list[Webhook]:
    """All of it, in the order in which it is sent."""
    ada = cast.webhook("a new performer", PROFILE, "ada", 1, _created("Ada"))
    bela = cast.webhook("a new performer", PROFILE, "bela", 2, _created("Bela"))
    cleo = cast.webhook("a new performer", PROFILE, "cleo", 3, _created("Cleo"))
    bio = cast.webhook("a patch of one field", PROFILE, "ada", 4, _changed(2, bio="Dances."))
    late = cast.webhook("late: an older patch", PROFILE, "bela", 5, _changed(2, displayName="Bela B."))
    newer = cast.webhook("a newer patch", PROFILE, "bela", 6, _changed(3, displayName="Bela Bright"))
    active = cast.webhook("a change of status", STATUS, "cleo", 7, {"status": "active", "version": 2})
    verified = cast.webhook("identity verified", VERIFIED, "ada", 8, _passed(cast.verification))
    badge = cast.webhook("a type not known here", UNKNOWN, "cleo", 9, {"badge": "gold"})
    forged = cast.webhook("forged", STATUS, "bela", 10, {"status": "suspended", "version": 9})
    return [
        ada, bela, cleo, bio, replace(bio, about="the same once more", repeated=True), newer, late, active, verified,
        badge, replace(forged, forged=True),
    ]  # fmt: skip


def _created(name: str) -> dict[str, object]:
    profile = {"username": name.lower(), "displayName": name, "bio": None, "verified": False}
    return {"profile": profile, "status": "pending", "version": 1}


def _changed(version: int, **changes: object) -> dict[str, object]:
    return {"changes": changes, "version": version}


def _passed(verification: str) -> dict[str, object]:
    checks = dict.fromkeys(("documentAuthenticity", "faceMatch", "ageCheck"), "passed")
    return {"verificationId": verification, "result": {"status": "passed", "riskScore": 93, "checks": checks}}
