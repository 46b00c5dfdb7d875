import os
from pathlib import Path

from safevideo_devstack.backends.install import POLICY_TEXT, no_services


def test_policy_forbids_services_to_start_during_an_installation(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with no_services(policy):
        assert os.access(policy, os.X_OK)
        assert os.waitstatus_to_exitcode(os.system(f"{policy} redis-server start")) == 101
    assert not policy.exists()


def test_policy_of_the_machine_stays(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 104\n")
    with no_services(policy):
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_policy_of_a_killed_installation_is_removed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(POLICY_TEXT)
    with no_services(policy):
        pass
    assert not policy.exists()
