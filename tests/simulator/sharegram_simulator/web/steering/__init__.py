"""`/_sim`: how tests, drills and people steer the simulator. Never hit by faults, never recorded as a call."""
