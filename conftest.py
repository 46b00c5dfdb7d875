"""Every test of every distribution may ask for real backends and whole stacks; the two plugins say how."""

pytest_plugins = ["safevideo_common.testing.plugin", "safevideo_common.testing.stacks"]
