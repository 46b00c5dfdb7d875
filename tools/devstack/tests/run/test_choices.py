from pathlib import Path

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.config import Config, read_config


def test_without_choices_it_is_the_embedded_stack_on_the_usual_ports() -> None:
    assert read_config({}) == Config("embedded", 0, Path.cwd() / ".run")


def test_what_was_typed_is_taken() -> None:
    typed = {"STACK": "local", "PORT_OFFSET": "1000", "RUN_DIR": "/tmp/elsewhere"}
    assert read_config(typed) == Config("local", 1000, Path("/tmp/elsewhere"))


@pytest.mark.parametrize("offset", ["-1", "1_000", "59001", "many", "٣"])
def test_an_offset_that_moves_no_port_is_refused_with_what_to_type(offset: str) -> None:
    with pytest.raises(StartupError, match="PORT_OFFSET=1000 make run"):
        read_config({"PORT_OFFSET": offset})


def test_an_unknown_stack_is_refused_with_those_there_are() -> None:
    with pytest.raises(StartupError, match="embedded, local"):
        read_config({"STACK": "cloud"})
