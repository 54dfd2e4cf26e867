"""Check a hand-off against its SHA256SUMS: nothing missing, changed or added."""

from __future__ import annotations

from pathlib import Path

from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.handoff.sums import NAME, check_sums, read_sums


def main(argv: list[str] | None = None) -> None:
    """Command line; exit status 1 and the list of faults when the hand-off is not as it was written."""
    options = parser(__doc__, "normct.handoff.verify")
    options.add_argument("folder", type=Path, help="the hand-off (holds index.html)")
    folder = options.parse_args(argv).folder
    faults = check_sums(folder)
    if faults:
        raise NormctError("\n".join(["The hand-off is not as it was written; copy it again:", *faults]))
    print(f"{len(read_sums(folder / NAME))} files, all as written.")


if __name__ == "__main__":
    run(main)
