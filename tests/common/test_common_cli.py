"""What a stage's command line says when it cannot go on."""

from __future__ import annotations

import errno
import os

import pytest

from normct.common import cli
from normct.common.errors import NormctError


def raising(error: BaseException):
    def main(argv: list[str] | None) -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NormctError("the table has faults"), "error: the table has faults"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full (No space left on device)"),
    ],
)
def test_a_users_error_and_a_full_disk_end_in_a_sentence(capsys, error, said):
    with pytest.raises(SystemExit) as stop:
        cli.run(raising(error))
    assert stop.value.code == 1
    assert said in capsys.readouterr().err


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(PermissionError):
        cli.run(raising(PermissionError(errno.EACCES, "no")))
