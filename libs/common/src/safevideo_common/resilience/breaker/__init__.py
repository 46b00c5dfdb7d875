"""A circuit breaker for all processes together: one state in Redis, one more in each process.

state.lua has the diagram and the one script that makes each decision; state.py has the same rules in plain Python, for
a process without Redis; breaker.py decides for the callers of one process, without I/O while it is closed or open.

ADR 15 says why this is not pybreaker, and what was taken from it.
"""
