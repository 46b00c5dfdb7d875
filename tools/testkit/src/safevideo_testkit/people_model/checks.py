"""Checks of what must be true after each step, by a whole dump and by using sessions, without asking our code."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import text

from safevideo_common.errors import SafeVideoError
from safevideo_common.users.accounts import CACHE_SECONDS
from safevideo_testkit.people_model.model import CAST, Session
from safevideo_testkit.people_model.points import Points
from safevideo_testkit.people_model.replica import Replica
from safevideo_testkit.people_model.stage import Stage, request_with
from safevideo_testkit.people_model.world import Stored, World

AUDITED: Final = frozenset({
    "users.merged", "users.unmerged", "users.hold_placed", "users.hold_released", "users.erasure_ordered",
    "users.erased", "users.role_changed", "users.suspended", "users.reinstated", "kyc.submitted", "kyc.reopened",
})  # fmt: skip
"""Actions that are in the audit log once for each act."""


def places(stored: Stored) -> Mapping[str, Counter[str]]:
    """Return by person the tables with columns, the files and the keys that have the planted word, and how often."""
    found: dict[str, Counter[str]] = {name: Counter() for name in CAST}
    for position, value in _values(stored):
        for name in _names_in(value):
            found[name][position] += 1
    return found


def _values(stored: Stored) -> Iterator[tuple[str, object]]:
    for table, rows in stored.rows.items():
        for row in rows:
            yield from ((f"{table}.{column}", value) for column, value in row.items() if value is not None)
    yield from (("files", content) for content, _ in stored.files.values())
    for keys in stored.keys.values():
        yield from (("redis", key + value) for key, (value, _) in keys.items())


_WORDS: Final = re.compile("|".join(each.word for each in CAST.values()).encode(), re.IGNORECASE)


def _names_in(value: object) -> set[str]:
    if not isinstance(value, (str, bytes, dict, list)):
        return set()
    content = value if isinstance(value, bytes) else str(value).encode()
    return {each.decode().lower().removeprefix("planted") for each in _WORDS.findall(content)}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


async def answer_to(replica: Replica, session: Session) -> tuple[int, str] | str:
    """Return the user id and the role that a token opens, or the code of the refusal."""
    request = request_with(session.token)
    try:
        principal = await replica.services.authenticator.authenticate(request)
    except SafeVideoError as error:
        return error.code
    assert principal.user_id is not None
    return principal.user_id, str(principal.role)


async def check(stage: Stage, before: Stored | None, *, idle: bool = False) -> tuple[list[str], Stored]:
    """Return what is not as it must be, and what is stored now. `before` is what was stored before the step."""
    stored = await stage.world.save()
    found = list(stage.violations)
    stage.violations = []
    found += await _wrong_sessions(stage)
    found += _wrong_words(stage, stored)
    found += _lost_under_hold(stage, before, stored)
    found += _wrong_files(stored, idle=idle)
    found += _wrong_audit(stage, stored)
    found += await open_transactions(stage.world)
    return found, stored


async def _wrong_sessions(stage: Stage) -> list[str]:
    """Use every session that was ever opened on both replicas, a second later than the last act."""
    wrong = []
    stage.world.time.moved += CACHE_SECONDS
    for replica in (stage.world.first, stage.world.second):
        replica.points.begin()
        answers = [(each, await answer_to(replica, each)) for each in stage.model.sessions]
        wrong += [
            f"a session of {session.opener} {what}"
            for session, answer in answers
            if (what := _wrong_answer(stage, session, answer)) is not None
        ]
    return wrong


def _wrong_answer(stage: Stage, session: Session, answer: tuple[int, str] | str) -> str | None:
    model, root = stage.model, stage.model.root(session.opener)
    if isinstance(answer, str):
        may_end = session.is_ended or session.may_be_ended or model.has_order(session.opener)
        may_end = may_end or model.is_suspended(session.opener)
        return None if answer == "UNAUTHORIZED" and may_end else f"is answered {answer}"
    user_id, role = answer
    if session.is_ended or model.is_suspended(session.opener):
        return f"should have ended, and acts as {stage.name_of(user_id)} ({role})"
    if user_id != stage.accounts[root]:
        return f"acts as {stage.name_of(user_id)}, not as {root}"
    return None if role == model.role(session.opener) else f"acts with role {role}, not {model.role(session.opener)}"


def _wrong_words(stage: Stage, stored: Stored) -> list[str]:
    wrong = []
    model = stage.model
    rows = {row["id"]: row for row in stored.rows["users"]}
    where = places(stored)
    for name, someone in CAST.items():
        found = where[name]
        if name in model.erased:
            if found:
                wrong.append(f"{name} is erased, and still in {dict(found)}")
            continue
        if model.has_order(name):
            continue
        own = rows[stage.accounts[name]]
        if own["erased_at"] is not None or not found:
            wrong.append(f"{name} was erased without an order")
        elif len(model.group(name)) == 1 and own["username"] != someone.word:
            wrong.append(f"the account of {name} has the profile of {own['username']}")
        if someone.performer and not found["performers.username"]:
            wrong.append(f"the performer {name} was erased without an order")
    return wrong


def _documents(stored: Stored, name: str) -> Counter[str]:
    requests = [row for row in stored.rows["kyc_requests"] if row["performer_id"] == CAST[name].sharegram_id]
    ids = {row["id"] for row in requests}
    return Counter(
        {
            "documents": sum(row["request_id"] in ids for row in stored.rows["kyc_documents"]),
            "applicants": sum(row["applicant"] is not None for row in requests),
            "files": places(stored)[name]["files"],
        }
    )


def _lost_under_hold(stage: Stage, before: Stored | None, stored: Stored) -> list[str]:
    wrong = []
    for name in CAST:
        if before is None or name in stage.model.excused or name in stage.model.erased:
            continue
        was, now = _documents(before, name), _documents(stored, name)
        if (fewer := was - now) and (stage.model.is_held(name) or not stage.model.has_order(name)):
            wrong.append(f"{name} lost {dict(fewer)}{' under a hold' if stage.model.is_held(name) else ''}")
    stage.model.excused.clear()
    return wrong


def _wrong_files(stored: Stored, *, idle: bool) -> list[str]:
    named = {row["file_name"] for row in stored.rows["kyc_documents"] if row["file_fault"] is None}
    wrong = [f"{len(missing)} documents have no file"] if (missing := named - stored.documents) else []
    faulty = {row["file_name"] for row in stored.rows["kyc_documents"] if row["file_fault"] is not None}
    wrong += [f"{len(faulty)} documents lost their file"] if faulty else []
    retained = {
        row["file_name"] for row in stored.rows["document_deletions"] if row["reason"] == "replaced"
    }  # by a hold
    if idle and (orphans := stored.documents - named - faulty - retained):
        wrong.append(f"{len(orphans)} files have no row")
    return wrong


def _wrong_audit(stage: Stage, stored: Stored) -> list[str]:
    counted = Counter(row["action"] for row in stored.rows["audit_log"])
    wrong = [
        f"{action} is {counted[action]} times in the audit log, not {stage.model.audited.get(action, 0)}"
        for action in sorted(AUDITED)
        if counted[action] != stage.model.audited.get(action, 0)
    ]
    return wrong + [f"an entry {row['action']} has no actor" for row in stored.rows["audit_log"] if not row["actor"]]


async def open_transactions(world: World) -> list[str]:
    """Return the transactions of this database that are still open."""
    query = text(
        "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        " ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
        " AND (t.trx_rows_locked > 0 OR t.trx_rows_modified > 0)"
    )
    async with world.database.read_connection() as reading:
        count = int(await reading.scalar(query) or 0)
    return [f"{count} transactions are open"] if count else []


def other_tasks() -> set["asyncio.Task[Any]"]:
    """Return the tasks that run beside this one."""
    return asyncio.all_tasks() - {asyncio.current_task()}


Facts = Mapping[str, object]


async def facts(stage: Stage, stored: Stored) -> Facts:
    """Return what can be seen of the world, in words that do not depend on row ids. Signs people in at the end."""
    world = stage.world
    world.restart()
    found: dict[str, object] = {}
    for number, session in enumerate(stage.model.sessions):
        answer = await answer_to(world.judge, session)
        found[f"session {number} of {session.opener}"] = _named(stage, answer)
    for row in stored.rows["users"]:
        name = stage.name_of(row["id"])
        merged = row["merged_into"] and stage.name_of(row["merged_into"])
        found[f"account {name}"] = (merged, row["erased_at"] is not None, row["suspended_at"] is not None)
    found["holds"] = sorted(
        (stage.name_of(row["user_id"]) if row["user_id"] else row["performer_id"], row["reason"])
        for row in stored.rows["legal_holds"]
        if row["released_at"] is None
    )
    found["orders"] = sorted(row["applied_at"] is not None for row in stored.rows["erasure_orders"])
    found["requests"] = sorted(_request_facts(stored, row) for row in stored.rows["kyc_requests"])
    named = {row["file_name"] for row in stored.rows["kyc_documents"]}
    found["files without row"] = len(stored.documents - named)
    found["rows without file"] = len(named - stored.documents)
    for name, counted in places(stored).items():
        found[f"words of {name}"] = sorted(counted.items())
    actions = Counter(row["action"] for row in stored.rows["audit_log"] if not row["action"].startswith("sessions."))
    found["audit"] = sorted(actions.items())
    found["outbox"] = sorted(Counter(_text(row["message_key"]) for row in stored.rows["outbox"]).items())
    found["inbox"] = sorted((row["event_id"], row["status"]) for row in stored.rows["event_inbox"])
    if _who_is_who(stored) != _who_is_who(stage.began):
        found |= await _sign_ins(stage)
    return found


async def _sign_ins(stage: Stage) -> Facts:
    from safevideo_testkit.people_model.acts import signs_in

    found: dict[str, object] = {}
    for name in ("ann", "ben", "cid", "eve"):
        try:
            _, signed_in = await signs_in(name).run(stage, stage.world.judge)
        except SafeVideoError as error:
            found[f"sign-in of {name}"] = error.code
        else:
            found[f"sign-in of {name}"] = (stage.name_of(signed_in.account.id), str(signed_in.account.role))
    return found


def _who_is_who(stored: Stored) -> object:
    """Return what decides whom a sign-in leads to."""
    accounts = [
        {name: value for name, value in row.items() if name not in ("last_sign_in_at", "updated_at", "generation")}
        for row in stored.rows["users"]
    ]
    identities = sorted((row["digest"], row["user_id"]) for row in stored.rows["user_identities"])
    return accounts, identities, sorted(row["identifier"] for row in stored.rows["erased_identifiers"])


def _named(stage: Stage, answer: tuple[int, str] | str) -> object:
    return answer if isinstance(answer, str) else (stage.name_of(answer[0]), answer[1])


def _request_facts(stored: Stored, row: Mapping[str, Any]) -> list[str]:
    documents = sum(each["request_id"] == row["id"] for each in stored.rows["kyc_documents"])
    values = (
        row["performer_id"], row["status"], row["decision_reason"], row["applicant"] is not None,
        row["result"] is not None, row["decision_notes"] is not None, documents, row["verification_id"] is not None,
    )  # fmt: skip
    return [str(each) for each in values]


def differences(expected: Facts, found: Facts) -> list[str]:
    """Return the facts that differ, one a line."""
    return [
        f"{name}: {found.get(name)!r}, not {expected.get(name)!r}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def reached(points: Points) -> str:
    """Return the last point in words."""
    return f"{points.reached[-1].kind} {points.reached[-1].text[:60]}" if points.reached else "nothing"
