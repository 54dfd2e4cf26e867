"""BET in Python behind bet's command line: ``IN OUT -f 0.01``.

PyPI ``brainextractor`` (Smith 2002, re-implemented); so the ``brainextractor`` engine runs through the same
nipype interface as FSL's own program.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from pathlib import Path

ITERATIONS = 300  # the surface stands still by then; the package's 1000 costs three times the time and memory


def main(argv: list[str] | None = None) -> None:
    """Write the image masked by its brain, as bet does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-f", dest="fraction", type=float, default=0.5, help="fractional intensity threshold")
    args = parser.parse_args(argv)

    import nibabel as nib
    import numpy as np

    # nipype takes anything on standard error for a failure of bet
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from brainextractor import BrainExtractor

        image = nib.Nifti1Image.from_filename(args.image)
        surface = BrainExtractor(image, bt=args.fraction)
        surface.run(iterations=ITERATIONS)
        mask = surface.compute_mask() > 0
    masked = np.where(mask, np.asarray(image.dataobj), 0).astype(np.float32)
    nib.save(nib.Nifti1Image(masked, image.affine), args.out)


if __name__ == "__main__":
    main()
