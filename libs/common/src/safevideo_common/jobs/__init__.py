"""Background jobs: rows of `batch_jobs` that survive their worker. For work that takes long or calls Sharegram.

    (a) enqueue
          ▼
        queued ────(b) claim────▶ processing ──(c)──▶ completed
         │  ▲                      │  │  └─────(d)──▶ failed
         │  └──(e)──(f)──(g)───────┘  │
         └─(h)──▶ cancelled ◀───(h)───┘

    completed, failed, cancelled ──(i) retry──▶ queued          any status ──(j) SQL by hand──▶ queued

The checks of each transition, in the transaction that writes it. All times are the database's.

a. Enqueue. `active_key` is the unique key of a job that is queued or processing, in a UNIQUE column. So a second job
   with the same key is not inserted, and the caller gets the first one.
b. Claim: `status = 'queued' AND (next_try_at <= now OR error IS NULL)`, on rows that no transaction has locked (SKIP
   LOCKED). It sets a new random lease token. If `error IS NULL`, a new run starts: tries = 1, no cursor. Otherwise
   tries rises by one, and the run continues at the cursor. If another job has the key meanwhile (after j), the job
   fails with UNIQUE_TAKEN.
c. d. e. g. Complete, fail, retry later, interrupt: `id`, `lease_token` and `status = 'processing'`. If that does not
   match, nothing is written: the lease is lost. A retry (e) sets the error and a `next_try_at` with backoff. After
   `max_tries` attempts the job fails (d); if cancellation was requested it is cancelled (h). An interrupted attempt
   (g) does not count.
f. Rescue: `status = 'processing' AND lease_until <= now`, on rows that no transaction has locked: a locked row is being
   completed, or is in a step. Every process rescues jobs of all types. The rest is as in (e), with LEASE_LOST.
h. Cancel. A queued job ends at once. A running one gets `cancel_requested_at`, and ends at its next step or
   `raise_if_stopped()`, with the checks of (c).
i. Retry: the status is finished, and no other job has the key.
j. Nothing. `UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = …` is all that (b) needs. A worker that
   still runs the job fails at (c) and at every step from then on. (b) finds its token in the row, and records its
   attempt as `reset`.

Steps and lease renewals make the checks of (c), and renew the lease. A step commits its cursor with its work. So work
up to the cursor is done exactly once, and work after the last step may be repeated.

    model.py         data and rules, no I/O          completer.py      writes completions in batches (c d e g)
    handler.py       the interface for handlers      leases.py         renews leases, rescues jobs (f)
    worker.py        fetches, runs and drains        notifications.py  wakes workers by messages
    running_jobs.py  the slots of the process        scheduler.py      enqueues periodic jobs
    executor.py      one attempt and its outcome     maintenance.py    deletes old jobs, measures the queue
    service.py       operators: list, get, enqueue, retry, cancel (a h i)
    runtime.py       all of it beside a service's app
    store/           the SQL

ADR 10 has the reasons.
"""
