"""The thin command line every stage module has."""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections.abc import Callable

from normct.common.errors import NormctError


def parser(doc: str | None, prog: str) -> argparse.ArgumentParser:
    """Return a parser whose description is the module's docstring.

    An argument ``@FILE`` stands for the lines of FILE: a shell's command line holds 128 KiB, a cohort may need more.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run ``main``; an error of the user's or a full disk ends in a sentence and exit status 1, without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        main(None)
    except NormctError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: the disk is full ({error.strerror}); nothing half-written was kept. Free space where results_dir "
            "and the temporary folder lie, then run the same command again",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
