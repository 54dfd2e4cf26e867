"""The methods paragraph of a paper, generated from the settings that were run."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from normct.common.cautions import EXPOSED
from normct.common.epochs import epochs_of
from normct.common.registry import METHODS, STAGE1
from normct.evaluate.froc import RATES
from normct.evaluate.left_out import KNOTS
from normct.evaluate.methods_parts import cohort_parts, kl_weights, labels, listed, software
from normct.evaluate.references import CITED, REFERENCES
from normct.evaluate.regions import HIT_IOU, SMALLEST_ML

KL_GRADIENT = ("vae_kl", "cevae")
"""Methods that have a KL-gradient score (``normct.score.kl_gradient``)."""
_FUSED = {"statistical_atlas": "the statistical atlas", "networks": "all networks (their mean)"}


class _Citations:
    """Numbers references in the order in which the text first names them."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def __call__(self, *keys: str) -> str:
        self.order += [key for key in keys if key not in self.order]
        return "".join(f"[{self.order.index(key) + 1}]" for key in keys)


def methods_text(settings: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return paragraphs and the numbered references they cite.

    Parameters
    ----------
    settings : dict
        ``synthetic`` and the config's sections ``preprocess``, ``train``, ``score``, ``evaluate``; where known,
        ``counts`` (rows of ``cohort.csv``) and ``versions`` (:func:`normct.common.provenance.versions`).
    """
    train, score, ev = (settings[name] for name in ("train", "score", "evaluate"))
    scored = [m for m in METHODS if m in train["methods"]]
    trained = [m for m in METHODS if m in scored or (m == STAGE1 and _needs_stage1(scored))]
    cite = _Citations()
    # plain text, nothing to escape
    environment = Environment(
        loader=PackageLoader("normct.evaluate"),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["plain"] = "{:g}".format
    text = environment.get_template("methods.txt.j2").render(
        synthetic=settings["synthetic"],
        pre=settings["preprocess"],
        train=train,
        score=score,
        cal=score["calibrated"],
        ev=ev,
        cite=cite,
        scored=scored,
        # a method added to the registry alone is cited as it stands there
        trained={METHODS[m].label: CITED.get(m, (m,)) for m in trained},
        epochs=_epochs(train, trained),
        equal=_equal(train, scored),
        stage1=STAGE1 in trained,
        fitted=trained,
        betas=kl_weights(train, trained),
        cohort=cohort_parts(settings.get("counts") or []),
        software=software(settings.get("versions") or {}, settings["preprocess"]["skullstrip"]["engine"]),
        heads=labels(m for m in scored if METHODS[m].head),
        kl_gradient=labels(m for m in scored if m in KL_GRADIENT),
        fused=listed([_FUSED.get(name) or METHODS[name].label for name in score["fusion"]]),
        exposed=EXPOSED,
        specificities=listed([f"{100 * s:g}" for s in ev["specificities"]]),
        first_specificity=f"{100 * ev['specificities'][0]:g}",
        knots=KNOTS,
        iou=HIT_IOU,
        region_ml=SMALLEST_ML,
        rates=listed([f"{rate:g}" for rate in RATES]),
    )
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    sources = [REFERENCES.get(key) or f"{METHODS[key].citation}." for key in cite.order]
    return paragraphs, [f"[{i}] {source}" for i, source in enumerate(sources, start=1)]


def _needs_stage1(methods: list[str]) -> bool:
    return any(METHODS[m].pretrained for m in methods)


def _epochs(train: dict[str, Any], methods: list[str]) -> str:
    """Return the most epochs of each method in words, methods of equal numbers together."""
    groups: dict[str, list[str]] = {}
    for method in methods:
        number = epochs_of(train, method)
        words = f"{number} epoch{'s' if number != 1 else ''}"
        if METHODS[method].pretrained:
            words += f" after those of {METHODS[STAGE1].label.lower()}"
        groups.setdefault(words, []).append(method)
    if len(groups) == 1:
        return next(iter(groups))
    return listed(f"{words} ({labels(members)})" for words, members in groups.items())


def _equal(train: dict[str, Any], methods: list[str]) -> bool:
    """Return whether several final networks were allowed the same number of epochs, stage 1 counted."""
    first = train[STAGE1]["epochs"]
    final = [m for m in methods if m != STAGE1]
    budgets = {epochs_of(train, m) + (first if METHODS[m].pretrained else 0) for m in final}
    return len(final) > 1 and len(budgets) == 1
