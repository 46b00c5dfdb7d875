"""`make run`: the whole system on one machine, for the first five minutes, demos and drills.

__main__.py     checks and the lock;  course.py     stack up, scene, serving until Ctrl-C
choices.py      what was asked for by STACK, PORT_OFFSET and RUN_DIR
place.py        what lies where in `.run/`
ports.py        the ports, and port_holders.py: who has a taken one
run_lock.py     one run a folder;  roster.py, env_file.py, secret_store.py: what is written there
services.py     the table of services, and what each is configured with
embedded.py     STACK=embedded: one process hosts all of them
local.py        STACK=local: one process each, on real backends
supervisor.py   keeps processes running: Valkey for the one, everything for the other
stopping.py     Ctrl-C, and the bound on how long stopping takes
scene/          the opening scene: ten webhooks and what became of them
narration.py    a line for each event that passes, from then on
"""
