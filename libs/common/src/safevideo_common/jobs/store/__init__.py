"""The SQL of the job queue.

    queue.py      find due jobs, claim them                               transition (b)
    attempts.py   keep a lease, write under it, complete, rescue          transitions (c) to (g)
    admin.py      enqueue, show, cancel, retry                            transitions (a), (h), (i)
    stats.py      measure the queue, prune old jobs, normalize words      after (j)

All times are the database's.
"""
