"""Participant IDs name folders and stand in pages: only letters and digits may follow ``sub-``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from normct.common.errors import ConfigError

SUBJECT = re.compile(r"sub-[A-Za-z0-9]{1,64}")


def refuse_bad_ids(subjects: Iterable[str]) -> None:
    """Raise :class:`ConfigError` that lists every ID which could lead out of its folder or into a page's markup."""
    bad = [f"{subject!r}" for subject in subjects if not SUBJECT.fullmatch(subject)]
    if bad:
        raise ConfigError("An ID is sub- and 1 to 64 letters or digits; these are refused:", bad)
