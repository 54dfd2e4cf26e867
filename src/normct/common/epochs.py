"""How long a method trains: the training and the text about it read the same."""

from __future__ import annotations

from typing import Any

from normct.common.registry import METHODS, STAGE1


def epochs_of(train: dict[str, Any], method: str) -> int:
    """Return the most epochs of a method, its stage 1 not counted, from the config's ``train`` section.

    null is the equal budget: stage 1 and stage 2 of the pretrained VAE together.
    """
    section = METHODS[method].section
    own = train[section]["epochs"]
    if own is None:
        return int(train[STAGE1]["epochs"] + train["vae"]["epochs"])
    # a method that shares its section with a pretrained one is that one's twin: it gets stage 1's steps too
    twin = not METHODS[method].pretrained and any(
        m.pretrained and m.section == section for m in METHODS.values()
    )
    return int(own + train[STAGE1]["epochs"] if twin else own)
