"""Copy a bundle to where no rule writes: ``bundles/<name>-<checksum>/``; prints the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from normct.common.bundle import BundleError, bundle_checksum, verify_bundle
from normct.common.cli import parser, run
from normct.common.errors import NormctError
from normct.common.files import atomic


def copy_bundle(source: Path, target: Path) -> Path:
    """Verify a bundle, copy it to ``target/<name>-<first 8 digits of its checksum>`` and return that folder.

    Raises
    ------
    NormctError
        When the bundle is not whole, or the folder exists with other content; nothing is overwritten.
    """
    manifest = verify_bundle(source)
    final = target / f"{manifest['name']}-{bundle_checksum(source)}"
    if final.exists():
        try:
            same = verify_bundle(final) == manifest
        except BundleError:
            same = False
        if not same:
            raise NormctError(f"{final}: exists with other content; remove it first, it is not overwritten")
        return final
    with atomic(final) as part:
        for name in ("bundle.json", *manifest["files"]):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, part / name)
        verify_bundle(part)
    return final


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    arguments = parser(__doc__, "normct.score.copy_bundle")
    arguments.add_argument("bundle", type=Path, help="folder of the bundle")
    arguments.add_argument("target", type=Path, help="folder to copy it into, such as bundles/")
    args = arguments.parse_args(argv)
    print(copy_bundle(args.bundle, args.target))


if __name__ == "__main__":
    run(main)
