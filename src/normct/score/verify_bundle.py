"""Verify a bundle's checksums once, before any scan is scored with it."""

from __future__ import annotations

import logging
from pathlib import Path

from normct.common.bundle import bundle_checksum, verify_bundle
from normct.common.cli import parser, run
from normct.common.files import write_json

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.verify_bundle")
    arguments.add_argument("bundle", type=Path, help="folder of the bundle")
    arguments.add_argument("out", type=Path, help="record that it holds")
    args = arguments.parse_args(argv)
    manifest = verify_bundle(args.bundle)
    record = {
        "name": manifest["name"],
        "checksum": bundle_checksum(args.bundle),
        "files": len(manifest["files"]),
    }
    write_json(args.out, record)
    log.info("bundle %s-%s holds", record["name"], record["checksum"])


if __name__ == "__main__":
    run(main)
