"""Every test of every distribution may ask for real backends and whole stacks; the plugins say how."""

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "safevideo_testkit.plugin",
    "safevideo_testkit.parallel",
    "safevideo_testkit.stacks",
    "safevideo_testkit.file_stores",
]

# How fast examples are made says how busy the machine is, not whether the code is right.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")
