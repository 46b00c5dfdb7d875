"""`make run`: the whole system on one machine, for the first five minutes, demos and fault tests.

__main__.py     checks and the lock;  app.py: stack up, demo, serving until Ctrl-C
config.py       STACK, PORT_OFFSET and RUN_DIR; the ports, and the process that has a taken one
state_files.py  the files of `.run/`: paths, env, secrets, pids, the lock
context.py      what all parts of a run share, and the settings of the services
setup.py        schema, topics and API key, before a service may start; the simulator
embedded.py     STACK=embedded: one process hosts all services
local.py        STACK=local: one process for each service, on real backends
supervisor.py   starts processes again: Valkey in the embedded stack, everything in the local one
signals.py      Ctrl-C, the bound on the time that stopping takes, memory reports
demo.py         ten webhooks at the start, and their outcomes
event_feed.py   a line for each webhook that arrives afterwards
"""
