"""The event log: a port (`port.py`), two adapters (`kafka/`, `embedded/`), and the loop that consumes from it.

Services know the port only. Which adapter stands behind it is decided once, in `factory.py`, from the settings.
"""
