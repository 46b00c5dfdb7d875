"""The operations: each an act on people of the cast, with what the model says of it once it was accepted."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gateway.kyc.service import Submission
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import utc_now
from safevideo_common.domain.kyc import RejectionReason
from safevideo_common.events import kyc as kyc_topic
from safevideo_common.events import topics
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.handler import Delivery
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.users.rights import Act as RightsAct
from safevideo_common.users.rights import RoleGrant
from safevideo_testkit.people_model.model import CAST, Session
from safevideo_testkit.people_model.replica import Replica
from safevideo_testkit.people_model.stage import CALLER, Attempt, Stage, identity_of, sign_in

Run = Callable[[Stage, Replica], Awaitable[Any]]
Accept = Callable[[Stage, Any], None]


def _nothing(_stage: Stage, _result: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Act:
    """An operation. `accept` tells the model once it was accepted, and compares what it returned."""

    name: str
    run: Run
    accept: Accept = _nothing

    def __repr__(self) -> str:
        return self.name


def signs_in(name: str) -> Act:
    """Sign in at the person's provider."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return replica, await sign_in(replica, CAST[name])

    def accept(stage: Stage, result: Any) -> None:
        replica, signed_in = result
        model, root = stage.model, stage.model.root(name)
        model.has_signed_in.add(name)
        if stage.name_of(signed_in.account.id) != root:
            stage.violations.append(f"{name} signed in as {stage.name_of(signed_in.account.id)}, not as {root}")
        if signed_in.account.role != model.role(name):
            stage.violations.append(f"{name} signed in with role {signed_in.account.role}, not {model.role(name)}")
        if model.has_order(name):
            stage.violations.append(f"{name} signed in after an erasure was ordered")
        if model.is_suspended(name):
            stage.violations.append(f"{name} signed in while suspended")
        token = replica.services.sign_in.access_token(signed_in)
        model.sessions.append(Session(token, name, root))

    return Act(f"{name} signs in", run, accept)


def signs_out(name: str) -> Act:
    """End the newest session of a person."""

    def newest(stage: Stage) -> Session:
        return next(each for each in reversed(stage.model.sessions) if each.opener == name)

    async def run(stage: Stage, replica: Replica) -> Any:
        session = newest(stage)
        session_id, _ = replica.services.tokens.read(session.token)
        await replica.services.sessions.end(stage.accounts[session.account], session_id)
        return session

    def accept(stage: Stage, session: Any) -> None:
        session.is_ended = True

    return Act(f"{name} signs out", run, accept)


def signs_out_everywhere(name: str) -> Act:
    """End all sessions of a person's account."""

    async def run(stage: Stage, replica: Replica) -> Any:
        user_id = stage.accounts[stage.model.root(name)]
        return await replica.services.sign_in.end_all(user_id, CALLER, {"userId": user_id})

    def accept(stage: Stage, _result: Any) -> None:
        stage.model.end_sessions(stage.model.root(name))

    return Act(f"{name} signs out everywhere", run, accept)


def is_signed_out_by_provider(name: str, number: int = 0) -> Act:
    """End the sessions of an identity by a logout token."""
    at = utc_now()

    async def run(stage: Stage, replica: Replica) -> Any:
        identity = identity_of(CAST[name])
        return await replica.services.sessions.end_by_logout_token(
            identity.issuer, jti=f"jti-{name}-{number}-{at}", subject=identity.subject, sid=None,
            issued_at=utc_now(), valid_seconds=60,
        )  # fmt: skip

    def accept(stage: Stage, _result: Any) -> None:
        for each in stage.model.sessions:
            each.is_ended = each.is_ended or each.opener == name

    return Act(f"{name} is signed out by the provider", run, accept)


def merge(primary: str, *duplicates: str) -> Act:
    """Merge accounts into one."""

    async def run(stage: Stage, replica: Replica) -> Any:
        ids = [stage.accounts[each] for each in duplicates]
        return await replica.services.merges.merge(stage.accounts[primary], ids, CALLER, dry_run=False)

    def accept(stage: Stage, _result: Any) -> None:
        if all(stage.model.parent.get(each) == primary for each in duplicates):
            return  # a repetition
        people = {each for name in (primary, *duplicates) for each in stage.model.group(name)}
        if stage.model.is_open_order(people):
            stage.violations.append(f"merged while an erasure order waits: {sorted(people)}")
        stage.model.merge(primary, duplicates)
        stage.model.audit("users.merged", 1 + len(duplicates))

    return Act(f"merge {primary} <- {', '.join(duplicates)}", run, accept)


def unmerge(duplicate: str) -> Act:
    """Take the last merge of an account back."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.merges.unmerge(stage.accounts[duplicate], CALLER, dry_run=False)

    def accept(stage: Stage, _result: Any) -> None:
        if duplicate not in stage.model.parent:
            return  # a repetition
        if stage.model.is_open_order(stage.model.group(duplicate)):
            stage.violations.append(f"unmerged while an erasure order waits: {duplicate}")
        stage.model.unmerge(duplicate)
        stage.model.audit("users.unmerged", 2)

    return Act(f"unmerge {duplicate}", run, accept)


def gets_role(name: str, role: Role) -> Act:
    """Give an account a role."""

    async def run(stage: Stage, replica: Replica) -> Any:
        act = RightsAct(stage.accounts[name], CALLER, "reason 1")
        return await replica.services.rights.set_role(act, RoleGrant(role))

    return Act(f"{name} becomes {role}", run, lambda stage, _: stage.model.set_role(name, role))


def suspend(name: str) -> Act:
    """Suspend an account."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.rights.suspend(RightsAct(stage.accounts[name], CALLER, "reason 1"))

    return Act(f"suspend {name}", run, lambda stage, _: stage.model.suspend(name))


def reinstate(name: str) -> Act:
    """End a suspension."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.rights.reinstate(RightsAct(stage.accounts[name], CALLER, "reason 1"))

    return Act(f"reinstate {name}", run, lambda stage, _: stage.model.reinstate(name))


def _reference(stage: Stage, name: str, *, as_performer: bool) -> int | str:
    return CAST[name].sharegram_id if as_performer else stage.accounts[name]


def hold(name: str, *, as_performer: bool = False, reason: str = "case 7") -> Act:
    """Place a hold on a person."""

    async def run(stage: Stage, replica: Replica) -> Any:
        reference = _reference(stage, name, as_performer=as_performer)
        return await replica.services.holds.create(reference, reason, CALLER)

    def accept(stage: Stage, _result: Any) -> None:
        if stage.model.group(name) & stage.model.being_erased:
            stage.violations.append(f"a hold was accepted for {name}, whose erasure has begun")
        stage.model.hold(name, reason)
        stage.model.audit("users.hold_placed")

    return Act(f"hold {'sg_' if as_performer else ''}{name}", run, accept)


def release(name: str) -> Act:
    """Release all holds on a person."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.holds.release(stage.accounts[name], "closed", CALLER)

    def accept(stage: Stage, released: Any) -> None:
        if stage.model.is_held(name):
            stage.model.release(name)
            stage.model.audit("users.hold_released", len(released))

    return Act(f"release {name}", run, accept)


def order_erasure(name: str) -> Act:
    """Order the erasure of a person."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.erasures.order(stage.accounts[name], "request 7", CALLER)

    def accept(stage: Stage, plan: Any) -> None:
        if stage.model.is_held(name) and not stage.model.has_order(name):
            stage.violations.append(f"an erasure was accepted for {name}, who is held")
        stage.model.order(plan.order_id, name)

    return Act(f"order erasure of {name}", run, accept)


def _job(name: str, handler: Callable[[Replica], JobHandler], accept: Accept = _nothing, **parameters: object) -> Act:
    attempts: dict[str, Attempt] = {}

    async def run(stage: Stage, replica: Replica) -> Any:
        attempt = attempts.pop(replica.name, None) or Attempt(replica, parameters)
        attempts[replica.name] = attempt
        result = await handler(replica).run(attempt)
        del attempts[replica.name]
        return result

    return Act(name, run, accept)


def run_erasures() -> Act:
    """Run the erasure job over all orders."""

    def accept(stage: Stage, _result: Any) -> None:
        stage.model.run_erasures()

    return _job("erasure job", lambda replica: replica.services.erasure_job, accept)


def run_erasure(index: int = 0) -> Act:
    """Run the erasure job for one order."""

    async def run(stage: Stage, replica: Replica) -> Any:
        order_id = stage.model.orders[index].id
        await replica.services.erasure_job.run(Attempt(replica, {"orderId": order_id}))
        return order_id

    def accept(stage: Stage, order_id: Any) -> None:
        stage.model.run_erasures([order_id])

    return Act(f"erasure job of order {index}", run, accept)


def run_retention() -> Act:
    """Delete what is older than its retention."""
    return _job("retention job", lambda replica: replica.services.retention_job, _time_took_documents)


def run_expiry() -> Act:
    """End requests whose time is over."""
    return _job("expiry job", lambda replica: replica.services.expiry_job, _time_took_documents)


def run_cleanup() -> Act:
    """Compare files and rows."""
    return _job("cleanup job", lambda replica: replica.services.cleanup_job)


def run_deleter() -> Act:
    """Delete the files that no row names any more."""

    async def run(stage: Stage, replica: Replica) -> Any:
        while await replica.services.deleter.delete_due():
            pass

    return Act("deleter", run, _time_took_documents)


def _time_took_documents(stage: Stage, _result: Any) -> None:
    stage.model.excused |= {name for name in CAST if not stage.model.is_held(name)}


def run_resync() -> Act:
    """Fetch results that did not come."""
    return _job("resync job", lambda replica: replica.services.resync_job)


def run_submission(key: str) -> Act:
    """Send a request to Sharegram."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.submission_job.run(Attempt(replica, {"requestId": stage.requests[key]}))

    return Act(f"submission job of {key}", run)


def submit(name: str) -> Act:
    """Submit a KYC request."""

    async def run(stage: Stage, replica: Replica) -> Any:
        async def keep(*_arguments: object) -> None:
            pass

        applicant = {"firstName": CAST[name].word, "lastName": CAST[name].word}
        submission = Submission("passport", (utc_now() + timedelta(days=900)).date(), applicant)
        return await replica.services.kyc.submit(stage.principal(name), submission, CALLER, keep)

    def accept(stage: Stage, stored: Any) -> None:
        stage.requests[f"{name} submitted"] = stored.request.id
        stage.model.audit("kyc.submitted")
        if name in stage.model.being_erased:
            stage.violations.append(f"{name} submitted after the erasure had begun")

    return Act(f"{name} submits", run, accept)


def upload(key: str, field: str) -> Act:
    """Upload a document of a request: a new one, or one in place of another."""
    name = key.split()[0]
    document_type = {"idFront": "passport", "selfie": "selfie", "proofOfAddress": "proof_of_address"}[field]

    async def run(stage: Stage, replica: Replica) -> Any:
        kyc, request_id = replica.services.kyc, stage.requests[key]
        stored = await kyc.get(request_id, stage.principal(name), frozenset())
        content = f"{CAST[name].word} {field} again".encode()
        return await replica.services.uploads.upload(_form(document_type, field, content), stored, CALLER)

    def accept(stage: Stage, _result: Any) -> None:
        if not stage.model.is_held(name):
            stage.model.excused.add(name)  # a document may have been replaced
        if name in stage.model.being_erased:
            stage.violations.append(f"{name} got a document after the erasure had begun")

    return Act(f"upload {field} of {key}", run, accept)


def _form(document_type: str, field: str, content: bytes) -> web.Request:
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 20)
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="documentType"\r\n\r\n' + document_type.encode() + b"\r\n",
        b'--b\r\nContent-Disposition: form-data; name="' + field.encode() + b'"; filename="a.jpg"\r\n',
        b"Content-Type: image/jpeg\r\n\r\n" + content + b"\r\n--b--\r\n",
    ]
    reader.feed_data(b"".join(parts))
    reader.feed_eof()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return make_mocked_request("POST", "/", headers=headers, payload=reader)


def approve(key: str) -> Act:
    """Verify a request by a person's decision."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.kyc.approve(stage.requests[key], _notes(key), CALLER)

    return Act(f"approve {key}", run, lambda stage, _: stage.model.audit("kyc.verified"))


def reject(key: str) -> Act:
    """Reject a request by a person's decision."""

    async def run(stage: Stage, replica: Replica) -> Any:
        reason = RejectionReason.SUSPICIOUS
        return await replica.services.kyc.reject(stage.requests[key], reason, _notes(key), CALLER)

    return Act(f"reject {key}", run, lambda stage, _: stage.model.audit("kyc.rejected"))


def reopen(key: str) -> Act:
    """Let a person submit again."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.kyc.reopen(stage.requests[key], CALLER)

    return Act(f"reopen {key}", run, lambda stage, _: stage.model.audit("kyc.reopened"))


def _notes(key: str) -> str:
    return f"seen {CAST[key.split()[0]].word}"


def result_arrives(key: str, status: str, number: int = 0) -> Act:
    """Receive the result of a verification from Sharegram."""
    name, state = key.split()
    event_type = kyc_topic.FAILED if status == "failed" else kyc_topic.COMPLETED
    at, offset = utc_now(), 1000 + number

    async def run(stage: Stage, replica: Replica) -> Any:
        body = {
            "data": {
                "verificationId": f"ver-{name}-{state}", "performerId": CAST[name].sharegram_id,
                "result": {"status": status, "riskScore": 90, "checks": {"name": CAST[name].word}},
            }
        }  # fmt: skip
        delivery = _delivery(f"evt-kyc-{name}-{status}-{number}", event_type, name, body, topics.KYC, offset, at)
        return await replica.services.kyc_events.process([delivery])

    return Act(f"{status} arrives for {key}", run)


def profile_changes(name: str, number: int = 0) -> Act:
    """Receive a changed profile of a performer from Sharegram."""
    at, offset = utc_now(), 2000 + number

    async def run(stage: Stage, replica: Replica) -> Any:
        body = {"data": {"performerId": CAST[name].sharegram_id, "changes": {"bio": f"{CAST[name].word} {number}"}}}
        event_type = "performer.profile.updated"
        delivery = _delivery(f"evt-profile-{name}-{number}", event_type, name, body, topics.PERFORMER, offset, at)
        return await replica.services.performer_events.process([delivery])

    return Act(f"profile of {name} changes", run)


def _delivery(
    event_id: str, event_type: str, name: str, body: object, topic: str, offset: int, at: datetime
) -> Delivery:
    envelope = Envelope(event_id, event_type, at, CAST[name].sharegram_id)
    return Delivery(envelope, json.dumps(body).encode(), topic, 0, offset, at)


def import_holds() -> Act:
    """Place again what was exported."""

    async def run(stage: Stage, replica: Replica) -> Any:
        return await replica.services.holds.import_holds(await replica.services.holds.export(), CALLER)

    return Act("import the exported holds", run)


def time_passes(days: int) -> Act:
    """Let days pass."""

    async def run(stage: Stage, replica: Replica) -> Any:
        stage.world.time.moved += timedelta(days=days)

    return Act(f"{days} days pass", run)


EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
Acts = Sequence[Act]
