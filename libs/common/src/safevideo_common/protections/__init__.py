"""The protections around calls to a dependency, as one process has them: breaker, fallback mode, budget, flags.

`resilience` has the mechanisms. Here are the decisions of operators, which the database keeps: who, why, until when.

    store.py      SQL of the decisions
    service.py    operators open, close and reset breakers, switch fallback mode, set flags; audited
    watcher.py    brings the decisions into a process
    runtime.py    all of it beside a service's app
"""
