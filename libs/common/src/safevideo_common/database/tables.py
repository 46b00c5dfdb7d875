"""The tables of the contract, §9, as they are after the last migration. A migration and this file change in one commit.

All times are UTC; columns hold them without a zone, to the microsecond. MySQL has no RETURNING, so no table uses it
where MariaDB and SQLite would.
"""

from typing import Final

from sqlalchemy import (
    Column,
    Date,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from safevideo_common.database.dialect import (
    BigId,
    Boolean,
    EmailText,
    ExternalIdText,
    JsonDocument,
    SubjectText,
    UtcDateTime,
)

metadata: Final = MetaData()

event_inbox: Final = Table(
    "event_inbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("consumer_group", String(64), nullable=False),
    Column("event_id", ExternalIdText, nullable=False),
    Column("event_type", String(128), nullable=False),
    Column("performer_id", ExternalIdText),  # Sharegram's id, the event's subject
    Column("source_topic", String(128), nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigId, nullable=False),  # of the first delivery
    Column("last_offset", BigId, nullable=False),  # of the latest one: a record read twice is no duplicate
    Column("occurred_at", UtcDateTime, nullable=False),  # the provider's timestamp
    Column("received_at", UtcDateTime, nullable=False),  # when webhook-ingest published it
    Column("decided_at", UtcDateTime, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", String(255)),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("next_try_at", UtcDateTime),
    Column("duplicates", Integer, nullable=False, server_default=text("0")),
    Column("request_id", String(128)),
    Column("payload", LargeBinary(1 << 20)),  # only while waiting or dead: otherwise the broker has it
    Column("body_sha256", String(64)),  # hex; NULL in rows of an earlier release
    Column("dedup_sha256", String(64)),  # that again, where the id is not signed and the body is the identity
    Column("event_version", BigId),  # the provider's; NULL if it sent none, or the event was never compared
    Column("fields_won", String(255)),  # names, with commas
    Column("fields_overtaken", JsonDocument),  # name -> the write version that owns the field, as in `field_versions`
    UniqueConstraint("event_id", "consumer_group", name="uq_event_inbox_event"),
    Index("uq_event_inbox_body", "dedup_sha256", "consumer_group", unique=True),
    Index("idx_event_inbox_performer", "performer_id"),
    Index("idx_event_inbox_status", "status", "consumer_group", "performer_id"),
    Index("idx_event_inbox_received", "received_at"),
    Index("idx_event_inbox_due", "next_try_at", "consumer_group"),  # only rows that wait for their time have one
    implicit_returning=False,
)

performers: Final = Table(
    "performers",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("sharegram_id", ExternalIdText, nullable=False),
    Column("username", String(255)),
    Column("display_name", String(255)),
    Column("email", String(255)),
    Column("profile_image", String(2048)),
    Column("bio", Text),
    Column("verified", Boolean, nullable=False),
    Column("status", String(16), nullable=False),  # the visible one
    Column(
        "field_versions", JsonDocument, nullable=False
    ),  # field -> write version: [version or null, unix microseconds, offset]
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("change_sequence", BigId, nullable=False, server_default=text("0")),  # of the last published change
    Column("deleted_at", UtcDateTime),  # a complete scan found that Sharegram has it no more
    Column("synced_at", UtcDateTime),  # last fetched alone, not by a scan
    Column("status_decision", JsonDocument),  # of a person, with Sharegram's status; NULL if there was none
    Column("suspended_until", UtcDateTime),  # of that decision
    UniqueConstraint("sharegram_id", name="uq_performers_sharegram_id"),
    Index("idx_performers_status", "status", "created_at"),
    Index("idx_performers_created", "created_at"),
    Index("idx_performers_updated", "updated_at"),
    Index("idx_performers_username", "username"),
    Index("idx_performers_suspended", "suspended_until"),
    implicit_returning=False,
)

performer_scan_rows: Final = Table(
    "performer_scan_rows",  # of the newest complete scan: whom it has seen; later, whom it has not
    metadata,
    Column("job_id", BigId, primary_key=True, autoincrement=False),
    Column("sharegram_id", ExternalIdText, primary_key=True),
    Column("is_missing", Boolean, nullable=False),
    Column("scan_started_at", UtcDateTime, nullable=False),
    implicit_returning=False,
)

sync_watermarks: Final = Table(
    "sync_watermarks",  # all changes at Sharegram up to this time are here
    metadata,
    Column("name", String(64), primary_key=True),
    Column("position", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    implicit_returning=False,
)

kyc_requests: Final = Table(
    "kyc_requests",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("performer_id", ExternalIdText, nullable=False),  # Sharegram's id
    Column("verification_id", ExternalIdText),
    Column("status", String(16), nullable=False),
    Column("risk_score", Double),
    Column("result", JsonDocument),  # the provider's last verdict: {status, riskScore, checks}
    Column("result_version", BigId),
    Column("result_at", UtcDateTime),
    Column("result_arrival", BigId, nullable=False, server_default=text("0")),  # offset in the topic: breaks ties
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("change_sequence", BigId, nullable=False, server_default=text("0")),  # of the last published change
    Column("decision_status", String(16)),  # of a person, or `expired`; NULL if there was none
    Column("decision_at", UtcDateTime),
    Column("decision_basis", String(16)),  # the status that the last result led to at that time
    Column("decision_reason", String(32)),  # of a rejection by a person
    Column("decision_notes", Text),
    Column("decided_by", String(128)),
    Column("reopened_at", UtcDateTime),  # when an admin allowed a new submission after a final rejection
    Column("applicant", LargeBinary(8192)),  # encrypted: what the performer submitted
    Column("document_type", String(32)),
    Column("document_expires_on", Date),
    Column("expires_at", UtcDateTime),  # of a verified request
    Column("decision_version", BigId),  # the provider's, of the result that the decision was based on
    Column("expiry_due_at", UtcDateTime),  # of its next warning, or of its end; NULL unless it is verified
    Column("review_reason", String(32)),  # why a person must look at it again, whatever its status is
    Column("superseded_by", BigId),  # the later request that took its place: no result opens or verifies it again
    UniqueConstraint("verification_id", name="uq_kyc_requests_verification"),
    Index("idx_kyc_status", "status", "created_at"),
    Index("idx_kyc_performer", "performer_id"),
    Index("idx_kyc_expiry", "status", "expiry_due_at"),
    Index("idx_kyc_review", "review_reason"),
    implicit_returning=False,
)

kyc_documents: Final = Table(
    "kyc_documents",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("request_id", BigId, nullable=False),
    Column("slot", String(32), nullable=False),  # a later upload replaces the earlier one
    Column("document_type", String(32), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),  # hex, of the content before encryption
    Column("size", BigId, nullable=False),
    Column("file_name", String(128), nullable=False),  # in the store of documents
    Column("uploaded_at", UtcDateTime, nullable=False),
    Column("file_fault", String(16)),  # `missing` or `unreadable`; NULL while nothing is known to be wrong
    UniqueConstraint("request_id", "slot", name="uq_kyc_documents_slot"),
    UniqueConstraint("file_name", name="uq_kyc_documents_file"),
    Index("idx_kyc_documents_fault", "file_fault"),
    implicit_returning=False,
)

document_deletions: Final = Table(
    "document_deletions",  # files that no row names any more; deleted after the file
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("file_name", String(128), nullable=False),  # in the store of documents
    Column("request_id", BigId),  # whose document it was; NULL if nobody knows
    Column("reason", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),  # not before
    Column("next_try_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Index("idx_document_deletions_next_try", "next_try_at"),
    Index("idx_document_deletions_due", "due_at"),
    Index("idx_document_deletions_request", "request_id"),
    implicit_returning=False,
)

document_stores: Final = Table(
    "document_stores",  # one row: which store of documents belongs to this database
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("mark", String(32), nullable=False),  # hex; the store has the same
    Column("created_at", UtcDateTime, nullable=False),
    Column("confirmed_at", UtcDateTime),  # NULL until the mark was found in the store
    Column("refusal", String(32)),  # why nothing is deleted in the store; NULL while it is
    implicit_returning=False,
)

kyc_verification_steps: Final = Table(
    "kyc_verification_steps",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("request_id", BigId, nullable=False),
    Column("step_type", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("completed_at", UtcDateTime),
    UniqueConstraint("request_id", "step_type", name="uq_kyc_verification_steps"),
    implicit_returning=False,
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("client", String(64), nullable=False),
    Column("key_hash", String(64), nullable=False),  # SHA-256 of 256 random bits, hex
    Column("role", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    UniqueConstraint("key_hash", name="uq_api_keys_hash"),
    Index("idx_api_keys_client", "client"),
    implicit_returning=False,
)

users: Final = Table(
    "users",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("email", EmailText),  # `none:…` without an e-mail and `merged:…` of a merged account, so each is unique
    Column("is_email_verified", Boolean),  # NULL while nobody has said
    Column("sharegram_id", SubjectText),
    Column("username", String(255)),
    Column("display_name", String(255)),
    Column("profile_image", String(2048)),
    Column("role", String(16), nullable=False, server_default=text("'performer'")),  # of this account alone
    Column("merged_into", BigId),  # a user; then this account is part of it and has no session of its own
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("last_sign_in_at", UtcDateTime),
    Column("erased_at", UtcDateTime),  # then nobody can sign in, and nothing of the person is here
    Column("generation", String(32), nullable=False, server_default=text("''")),  # random; a session names it
    Column("version", BigId, nullable=False, server_default=text("0")),  # of its rights: how often they were changed
    Column("merged_email", EmailText),  # of a merged account, which gets it back
    Column("role_source", String(16)),  # who gave the role: `admin` or `claim`; NULL for the role at its creation
    Column("role_ends_at", UtcDateTime),  # then the account has the role `role_afterwards`
    Column("role_afterwards", String(16)),  # NULL: `performer`
    Column("suspended_at", UtcDateTime),  # then it has no session and no right until it is reinstated
    Index("idx_sharegram_id", "sharegram_id"),
    Index("idx_users_email", "email"),
    Index("idx_users_merged_email", "merged_email"),
    Index("idx_users_username", "username"),
    Index("idx_users_merged_into", "merged_into"),
    implicit_returning=False,
)

user_identities: Final = Table(
    "user_identities",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("user_id", BigId, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("issuer", SubjectText, nullable=False),
    Column("subject", SubjectText, nullable=False),
    Column("digest", String(64), nullable=False),  # of issuer and subject: they are compared byte for byte
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("digest", name="uq_user_identities_digest"),
    Index("idx_user_identities_user", "user_id"),
    Index("idx_user_identities_subject", "subject"),
    implicit_returning=False,
)

user_merges: Final = Table(
    "user_merges",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("primary_id", BigId, nullable=False),
    Column("duplicate_id", BigId, nullable=False),
    Column("merged_at", UtcDateTime, nullable=False),
    Column("merged_by", String(128), nullable=False),
    Column("moved", JsonDocument, nullable=False),  # numbers of rows by column, and the fields that changed
    Column("unmerged_at", UtcDateTime),
    Column("unmerged_by", String(128)),
    Index("idx_user_merges_duplicate", "duplicate_id"),
    implicit_returning=False,
)

legal_holds: Final = Table(
    "legal_holds",  # while one is active, nothing of the person is deleted or erased
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("user_id", BigId),  # an account of the person, or
    Column("performer_id", ExternalIdText),  # Sharegram's id, of a performer without an account
    Column("reason", String(255), nullable=False),
    Column("placed_at", UtcDateTime, nullable=False),
    Column("placed_by", String(128), nullable=False),
    Column("released_at", UtcDateTime),
    Column("released_by", String(128)),
    Column("release_reason", String(255)),
    Index("idx_legal_holds_user", "user_id"),
    Index("idx_legal_holds_performer", "performer_id"),
    implicit_returning=False,
)

legal_hold_subjects: Final = Table(
    "legal_hold_subjects",  # by which a person was known when the hold was placed
    metadata,
    Column("hold_id", BigId, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),  # as of `erased_identifiers`
    Column("identifier", ExternalIdText, primary_key=True),
    Column("released_at", UtcDateTime),  # after an unmerge one person may be released and another not
    Index("idx_legal_hold_subjects_identifier", "identifier", "kind"),
    implicit_returning=False,
)

person_locks: Final = Table(
    "person_locks",  # rows to lock for persons of whom there is no account, or not yet
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    implicit_returning=False,
)

erasure_orders: Final = Table(
    "erasure_orders",  # never deleted
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("reason", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("applied_at", UtcDateTime),
    Column("started_at", UtcDateTime),  # from then on no hold is accepted
    implicit_returning=False,
)

erased_identifiers: Final = Table(
    "erased_identifiers",  # by which an erased person would come back
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("identifier", ExternalIdText, primary_key=True),
    Column("order_id", BigId, nullable=False),
    Index("idx_erased_identifiers_order", "order_id"),
    implicit_returning=False,
)

role_grants: Final = Table(
    "role_grants",  # for people who have no account yet
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("email", EmailText, nullable=False),
    Column("role", String(16), nullable=False),
    Column("role_ends_at", UtcDateTime),
    Column("reason", String(255), nullable=False),
    Column("granted_at", UtcDateTime, nullable=False),
    Column("granted_by", String(128), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("user_id", BigId),  # of the account that got it
    Index("idx_role_grants_email", "email"),
    implicit_returning=False,
)

integrations: Final = Table(
    "integrations",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("provider", String(64), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("configured_at", UtcDateTime),  # NULL: nobody has enabled or disabled it, so the environment decides
    Column("credentials", LargeBinary(2048)),  # encrypted; NULL: those of the environment
    Column("webhook_url", String(1024)),
    Column("is_sso_enabled", Boolean),
    Column("is_kyc_enabled", Boolean),
    Column("sync_interval_seconds", Integer),
    UniqueConstraint("provider", name="uq_integrations_provider"),
    implicit_returning=False,
)

webhook_secrets: Final = Table(
    "webhook_secrets",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("integration_id", BigId, nullable=False),
    Column("name", String(64), nullable=False),
    Column("ciphertext", LargeBinary(2048)),  # NULL if the secret is in the environment and only its last use is here
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    UniqueConstraint("integration_id", "name", name="uq_webhook_secrets_name"),
    implicit_returning=False,
)

rejected_webhooks: Final = Table(
    "rejected_webhooks",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("fingerprint", String(64), nullable=False),  # of all inputs of the verification, hex
    Column("received_at", UtcDateTime, nullable=False),  # the first time
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("times_seen", Integer, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("code", String(64), nullable=False),
    Column("scheme", String(32), nullable=False),
    Column("headers", JsonDocument, nullable=False),  # name -> values, those needed to verify it again
    Column("body", LargeBinary(1 << 21), nullable=False),  # encrypted: a third longer than what was sent
    Column("body_sha256", String(64), nullable=False),  # of the body as sent, hex
    Column("body_bytes", Integer, nullable=False),  # likewise
    Column("remote", String(64), nullable=False),
    Column("request_id", String(128)),
    Column("released_at", UtcDateTime),
    Column("released_event_id", ExternalIdText),
    UniqueConstraint("fingerprint", name="uq_rejected_webhooks_fingerprint"),
    # All columns that eviction reads, so that it reads no body.
    Index("idx_rejected_webhooks_share", "remote", "received_at", "body_bytes", "released_at"),
    Index("idx_rejected_webhooks_received", "received_at"),
    implicit_returning=False,
)

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("remote", String(64)),
    Column("request_id", String(128)),
    Column("details", JsonDocument, nullable=False),
    Column("target", String(191)),
    Index("idx_audit_log_at", "at"),
    Index("idx_audit_log_target", "target"),
    Index("idx_audit_log_request", "request_id"),
    implicit_returning=False,
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("principal", ExternalIdText, nullable=False),
    Column("route", String(128), nullable=False),
    Column("idempotency_key", ExternalIdText, nullable=False),
    Column("fingerprint", String(64), nullable=False),  # SHA-256 of the request, hex
    Column("token", String(32), nullable=False),  # of the claim
    Column("expires_at", UtcDateTime, nullable=False),  # of the claim, then of the response
    Column("status", Integer),  # NULL while the request runs
    Column("document", JsonDocument),
    UniqueConstraint("principal", "route", "idempotency_key", name="uq_idempotency_keys_key"),
    Index("idx_idempotency_keys_expires", "expires_at"),
    implicit_returning=False,
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),  # by the database's own time
    implicit_returning=False,
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("topic", String(128), nullable=False),
    Column("message_key", LargeBinary(1 << 15), nullable=False),
    Column("headers", LargeBinary(1 << 20), nullable=False),  # a dead copy's may be another program's, of any size
    Column("payload", LargeBinary(1 << 20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("blocked_partition", String(160)),  # set while the row waits for a partition that takes no writes
    Index("idx_outbox_blocked", "blocked_partition"),
    implicit_returning=False,
)

batch_jobs: Final = Table(
    "batch_jobs",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("job_type", String(64), nullable=False),
    Column("parameters", JsonDocument, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text),  # NULL in a queued row: it begins anew, at once
    Column("created_at", UtcDateTime, nullable=False),
    Column("runner", String(64)),  # the service that alone may run it
    Column("unique_key", String(191)),
    Column("active_key", String(191)),  # the unique key while the job is queued or processing
    Column("queued_at", UtcDateTime, nullable=False),
    Column("next_try_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("max_tries", Integer, nullable=False),
    Column("lease_token", String(32)),
    Column("lease_until", UtcDateTime),
    Column("heartbeat_at", UtcDateTime),
    Column("worker", String(128)),
    Column("progress", Integer, nullable=False, server_default=text("0")),  # percent
    Column("total_items", BigId),
    Column("processed_items", BigId, nullable=False, server_default=text("0")),
    Column("cursor", JsonDocument),
    Column("result", JsonDocument),
    Column("cancel_requested_at", UtcDateTime),
    Column("cancel_reason", String(255)),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("created_by", String(128)),
    Column("request_id", String(128)),
    Column("free_tries", Integer, nullable=False, server_default=text("0")),  # of `tries`: these cost nothing
    Column("traceparent", String(55)),  # of the sampled span that enqueued it
    UniqueConstraint("active_key", name="uq_batch_jobs_active_key"),
    Index("idx_batch_jobs_due", "status", "job_type", "priority", "next_try_at", "id", "runner"),
    Index("idx_batch_jobs_type", "job_type", "created_at"),
    implicit_returning=False,
)

batch_job_tries: Final = Table(
    "batch_job_tries",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("job_id", BigId, nullable=False),
    Column("number", Integer, nullable=False),  # within the run: a fresh one counts from 1
    Column("worker", String(128)),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("error", Text),
    Index("idx_batch_job_tries_job", "job_id"),
    implicit_returning=False,
)

schedule_fires: Final = Table(
    "schedule_fires",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("slot", UtcDateTime, nullable=False),  # the last that has fired
    implicit_returning=False,
)

sharegram_idempotency_keys: Final = Table(
    "sharegram_idempotency_keys",
    metadata,
    Column("work", String(191), primary_key=True),  # what the key is for, such as start_verification:kyc-verify:123
    Column("idempotency_key", String(64), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("idx_sharegram_idempotency_keys_created", "created_at"),
    implicit_returning=False,
)

overrides: Final = Table(
    "overrides",
    metadata,
    Column("name", String(64), primary_key=True),  # breaker:sharegram, fallback:sharegram
    Column("action", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),  # an extension keeps it
    Column("ends_at", UtcDateTime),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("reason", String(255), nullable=False),
    implicit_returning=False,
)
