"""A trial that no machine here can hold is refused before anything starts."""

import os
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.config.sweep import Resources
from gapctl.errors import InputError
from gapctl.sweep.capacity import check_machine_capacity
from sweep_texts import SHIPPED


@pytest.mark.parametrize("resources", [Resources(cpus=2, readers=2), Resources(cpus=1, workers=4), Resources(cpus=4)])
def test_what_just_fits_is_taken_and_a_core_less_is_refused(resources: Resources) -> None:
    check_machine_capacity(resources, cores=4)
    with pytest.raises(InputError, match=r"resources\.cpus.*: 4 CPUs asked for a trial, but this machine has 3; ask"):
        check_machine_capacity(resources, cores=3)


def test_a_sweep_says_so_and_declares_nothing(tmp_path: Path) -> None:
    many = 4 * (os.cpu_count() or 1)
    result = gapctl("sweep", str(SHIPPED), "--set", f"resources.cpus={many}", "--runs", str(tmp_path / "runs"))

    assert result.exit_code == 2
    assert f"{many} CPUs asked for a trial" in result.err
    assert not (tmp_path / "runs").exists()
