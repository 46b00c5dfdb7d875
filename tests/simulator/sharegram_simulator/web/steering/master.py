"""Changes at the master: performers and verifications, with the webhooks that follow."""

from collections.abc import Sequence
from typing import Annotated, Self

from aiohttp import web
from pydantic import Field, model_validator

from sharegram_simulator.delivery import Delivery
from sharegram_simulator.provider import PerformerChange, PerformerStatus, Provider
from sharegram_simulator.verdicts import VerdictStatus, reach
from sharegram_simulator.web.answers import ExternalId, Wire, json_answer, read_json

ShortText = Annotated[str, Field(max_length=255)]


class ProfilePatch(Wire):
    """Fields of a profile; null clears one, an absent one is left alone."""

    username: ShortText | None = None
    display_name: ShortText | None = None
    email: ShortText | None = None
    profile_image: Annotated[str, Field(max_length=2048)] | None = None
    bio: Annotated[str, Field(max_length=10_000)] | None = None
    verified: bool = False


class PerformerOrder(Wire):
    """Either `count` performers made up, or one that is created or changed."""

    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    performer_id: ExternalId | None = None
    profile: ProfilePatch | None = None
    status: PerformerStatus | None = None
    version: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    silent: bool = False

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        if self.count is not None and self.model_fields_set - {"count", "silent"}:
            raise ValueError("count makes performers up and takes nothing but silent")
        return self

    def change(self) -> PerformerChange:
        """The order for one performer."""
        profile = None if self.profile is None else self.profile.model_dump(by_alias=True, exclude_unset=True)
        return PerformerChange(self.performer_id, profile, self.status, self.version)


class VerificationOrder(Wire):
    """A verdict, or its correction."""

    performer_id: ExternalId | None = None
    status: VerdictStatus
    risk_score: Annotated[float, Field(ge=0, le=100)] | None = None
    silent: bool = False


class MasterSteering:
    """`/_sim/performers` and `/_sim/verifications`. Webhooks are queued; the answers do not wait for them."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/_sim/performers", self.put_performers),
            web.delete("/_sim/performers/{performer_id}", self.remove_performer),
            web.post("/_sim/verifications/{verification_id}", self.finish_verification),
        ]

    async def put_performers(self, request: web.Request) -> web.Response:
        """Create or change, and tell the receiver."""
        order = await read_json(request, PerformerOrder)
        if order.count is not None:
            performers, webhooks = self._provider.invent_performers(order.count, silent=order.silent)
        else:
            performer, webhooks = self._provider.change_performer(order.change(), silent=order.silent)
            performers = [performer]
        return json_answer(
            {"performers": [performer.as_json() for performer in performers], "webhooks": _ids(webhooks)}
        )

    async def remove_performer(self, request: web.Request) -> web.Response:
        """Forget a performer. There is no webhook for it: a deletion shows in a complete scan only."""
        performer_id = request.match_info["performer_id"]
        self._provider.performers.remove(performer_id)
        return json_answer({"performerId": performer_id, "deleted": True})

    async def finish_verification(self, request: web.Request) -> web.Response:
        """Decide, and tell the receiver."""
        order = await read_json(request, VerificationOrder)
        verification, webhooks = self._provider.finish_verification(
            request.match_info["verification_id"],
            order.performer_id,
            reach(order.status, order.risk_score),
            silent=order.silent,
        )
        return json_answer({"verification": verification.as_json(), "webhooks": _ids(webhooks)})


def _ids(webhooks: Sequence[Delivery]) -> list[str | None]:
    return [delivery.event.id for delivery in webhooks]
