"""The operations that are tried against each other, each with the situation that it needs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from safevideo_common.auth.api_keys import Role
from safevideo_testkit.people_model import acts
from safevideo_testkit.people_model.acts import Act
from safevideo_testkit.people_model.stage import Stage, plant_request, set_up
from safevideo_testkit.people_model.world import World

Prepare = Callable[[Stage], Awaitable[None]]


async def do(stage: Stage, act: Act) -> None:
    """Do an act on the judge, without a fault, and tell the model."""
    act.accept(stage, await act.run(stage, stage.world.judge))


def _request(status: str, key: str, *, days_ago: int = 1, slots: int = 3, **more: object) -> Prepare:
    async def prepare(stage: Stage) -> None:
        await plant_request(stage, "ann", status, days_ago=days_ago, slots=slots, key=key, **more)

    return prepare


def _done(make: Callable[[], Act]) -> Prepare:
    async def prepare(stage: Stage) -> None:
        await do(stage, make())

    return prepare


PREPARATIONS: Final[Mapping[str, Prepare]] = {
    "pending": _request("pending", "ann pending", slots=2),
    "stale": _request("pending", "ann stale", days_ago=60, slots=1),
    "in progress": _request("in_progress", "ann in_progress"),
    "unsent": _request("in_progress", "ann unsent", verification_id=None),
    "in review": _request("in_review", "ann in_review"),
    "verified": _request("verified", "ann verified", days_ago=800),
    "refused": _request("rejected", "ann refused", verification_id="ver-refused", decision_reason="suspicious"),
    "to delete": _done(acts.run_retention),
    "ben merged": _done(lambda: acts.merge("ann", "ben")),
    "cid merged": _done(lambda: acts.merge("ann", "cid")),
    "eve merged": _done(lambda: acts.merge("cid", "eve")),
    "ben signed in": _done(lambda: acts.signs_in("ben")),
    "ordered": _done(lambda: acts.order_erasure("ann")),
    "suspended": _done(lambda: acts.suspend("ann")),
    "held": _done(lambda: acts.hold("ann", reason="case 1")),
}
"""What a situation may need, in the order in which it is done."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the catalogue."""

    name: str
    make: Callable[[], Act]
    needs: tuple[str, ...] = ()


CATALOGUE: Final[Sequence[Operation]] = (
    Operation("sign in again", lambda: acts.signs_in("ann")),
    Operation("sign in to a merged account", lambda: acts.signs_in("ben"), ("ben merged",)),
    Operation("first sign-in to an import", lambda: acts.signs_in("cid")),
    Operation("first sign-in to a merged import", lambda: acts.signs_in("cid"), ("cid merged",)),
    Operation("first sign-in by e-mail", lambda: acts.signs_in("eve")),
    Operation("first sign-in by e-mail to a merged import", lambda: acts.signs_in("eve"), ("eve merged",)),
    Operation("sign out", lambda: acts.signs_out("ann")),
    Operation("sign out everywhere", lambda: acts.signs_out_everywhere("ann")),
    Operation("sign out by the provider", lambda: acts.is_signed_out_by_provider("ann")),
    Operation("merge one", lambda: acts.merge("ann", "ben")),
    Operation("merge the other way", lambda: acts.merge("ben", "ann")),
    Operation("merge several", lambda: acts.merge("ann", "ben", "cid")),
    Operation("merge an import", lambda: acts.merge("ann", "cid")),
    Operation("merge imports", lambda: acts.merge("cid", "eve")),
    Operation("merge elsewhere", lambda: acts.merge("dot", "ben")),
    Operation("unmerge", lambda: acts.unmerge("ben"), ("ben merged", "ben signed in")),
    Operation("unmerge an import", lambda: acts.unmerge("cid"), ("ben merged", "cid merged")),
    Operation("give a role", lambda: acts.gets_role("ann", Role.MODERATOR)),
    Operation("give a merged account a role", lambda: acts.gets_role("ben", Role.MODERATOR), ("ben merged",)),
    Operation("suspend", lambda: acts.suspend("ann")),
    Operation("suspend a duplicate", lambda: acts.suspend("ben")),
    Operation("reinstate", lambda: acts.reinstate("ann"), ("suspended",)),
    Operation("hold an account", lambda: acts.hold("ann")),
    Operation("hold a performer", lambda: acts.hold("ann", as_performer=True)),
    Operation("hold a merged account", lambda: acts.hold("ben"), ("ben merged",)),
    Operation("hold an import", lambda: acts.hold("cid", as_performer=True)),
    Operation("release", lambda: acts.release("ann"), ("held",)),
    Operation("import holds", acts.import_holds, ("held",)),
    Operation("order an erasure", lambda: acts.order_erasure("ann")),
    Operation("order the erasure of a duplicate", lambda: acts.order_erasure("ben")),
    Operation("erasure job of an order", acts.run_erasure, ("ordered",)),
    Operation("erasure job of all orders", acts.run_erasures, ("ordered",)),
    Operation("submit", lambda: acts.submit("ann")),
    Operation("upload a document", lambda: acts.upload("ann pending", "selfie"), ("pending",)),
    Operation("upload the last document", lambda: acts.upload("ann pending", "proofOfAddress"), ("pending",)),
    Operation("approve", lambda: acts.approve("ann in_review"), ("in review",)),
    Operation("reject", lambda: acts.reject("ann in_review"), ("in review",)),
    Operation("reject in progress", lambda: acts.reject("ann in_progress"), ("in progress",)),
    Operation("reopen", lambda: acts.reopen("ann refused"), ("refused",)),
    Operation("submission job", lambda: acts.run_submission("ann unsent"), ("unsent",)),
    Operation("resync job", acts.run_resync, ("in progress", "unsent")),
    Operation("passed arrives", lambda: acts.result_arrives("ann in_progress", "passed"), ("in progress",)),
    Operation("failed arrives", lambda: acts.result_arrives("ann verified", "failed"), ("verified",)),
    Operation("profile changes", lambda: acts.profile_changes("ann")),
    Operation("expiry job", acts.run_expiry, ("verified", "stale")),
    Operation("retention job", acts.run_retention),
    Operation("deleter", acts.run_deleter, ("to delete",)),
    Operation("cleanup job", acts.run_cleanup),
)


async def situation(world: World, needs: Sequence[str]) -> Stage:
    """Return a fresh stage with what is needed. Raises what a preparation raises."""
    stage = await set_up(world)
    await plant_request(stage, "ann", "rejected", days_ago=4000, slots=1, key="ann old", verification_id="ver-old")
    await plant_request(stage, "fay", "in_review", days_ago=2)
    for name, prepare in PREPARATIONS.items():
        if name in needs:
            await prepare(stage)
    world.restart()
    stage.violations = []
    return stage
