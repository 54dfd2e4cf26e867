"""nibabel, imported without pydicom: every step of every subject is a process of its own, and reads NIfTI.

nibabel imports pydicom, where it is installed, for NIfTI header extensions that hold DICOM; pydicom brings
requests and urllib3 along. That is two thirds of nibabel's import, and nothing here writes or reads such extensions.
"""

from __future__ import annotations

import sys

if "nibabel" in sys.modules or "pydicom" in sys.modules:
    import nibabel
else:
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # how Python marks a module as not to be found
    try:
        import nibabel
    finally:
        del sys.modules["pydicom"]

__all__ = ["nibabel"]
