"""Work that takes long or calls Sharegram: rows of `batch_jobs` that survive their worker.

    (a) enqueue
          ▼
        queued ────(b) claim────▶ processing ──(c)──▶ completed
         │  ▲                      │  │  └─────(d)──▶ failed
         │  └──(e)──(f)──(g)───────┘  │
         └─(h)──▶ cancelled ◀───(h)───┘

    completed, failed, cancelled ──(i) retry──▶ queued          whatever ──(j) SQL by hand──▶ queued

What each transition checks, in the transaction that writes it. All times are the database's.

a. `active_key`, the unique key of a job that is queued or processing, is a UNIQUE column: of two, the second is the
   first.
b. `status = 'queued' AND (next_try_at <= now OR error IS NULL)`, on rows that nobody has locked (SKIP LOCKED). It
   sets a new random lease token. `error IS NULL` says that it is a fresh run: tries = 1, no cursor. Else tries rises
   and the run goes on at the cursor. A key that another job has meanwhile (j) makes the job fail with UNIQUE_TAKEN.
c. d. e. g. `id`, `lease_token` and `status = 'processing'`. Where that does not hold, nothing is written: the lease
   is lost. Put off (e) sets the error and a `next_try_at` with backoff; after `max_tries` it is (d), and where
   somebody has asked for it (h). Drained (g) does not count the try.
f. Rescued: `status = 'processing' AND lease_until <= now`, on rows that nobody has locked: a row that is locked is
   being ended, or in a step. Any process does it, for all types. Then as (e), with LEASE_LOST.
h. A queued job at once. A running one is asked, by `cancel_requested_at`, and ends at its next checkpoint, a step or
   `check()`: as (c).
i. A finished status, and that nobody has its key.
j. Nothing. `UPDATE batch_jobs SET status = 'queued', error = NULL WHERE id = …` is all that (b) asks for. A worker
   that still runs the job fails (c) and every step from that moment on; (b) finds its token, and writes its try down
   as `reset`.

Steps and heartbeats check what (c) checks, and extend the lease. A step also saves the cursor in the transaction of the
work that it stands for, so work up to the cursor is done once, whatever dies; work behind the last step is done again.

    handler.py       what a handler is, and what it gets     engine.py     its loop: claim, run, drain
    bounds.py        how much a process takes on             claiming.py   finds what is due, and takes it
    in_hand.py       the runs of the process                 trying.py     what a handler raises, as an ending
    run.py           one try: its steps and checkpoints      announcing.py tells workers of jobs, from the gateway
    ending.py        writes the endings of many jobs         heartbeat.py  keeps the leases of all
    rescue.py        (f)                                     waking.py     hears of jobs by integration.commands.v1
    schedule.py      periodic jobs                           running.py    all of it beside a worker's app
    housekeeping.py  old jobs go; what waits, and words mistyped by hand

The queries are in `database/jobs.py` and `database/job_*.py`, the rules in `domain/jobs.py`. ADR 10 says why.
"""
