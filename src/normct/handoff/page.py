"""Rendering: templates with everything escaped, no remote sources, the picture of the scores."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from normct.common.registry import FUSED, label

RESEARCH = "Research use only. Not a medical device. Not for diagnosis."
SYNTHETIC = "Synthetic data: no patient. Figures on this page are not results."
UNTRAINED = "The model was trained on synthetic scans: its marks mean nothing for a patient."


def _static(name: str) -> str:
    return files("normct.handoff").joinpath("static", name).read_text("utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def block(value: Any) -> Markup:
    """Return JSON that is safe inside ``<script type="application/json">``: no ``<`` can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def render(template: str, script: str | None, **values: Any) -> str:
    """Render a page that is whole in itself.

    Style and script are inline and named by hash in the Content-Security-Policy, which allows nothing else
    but pictures as data URIs: the page can reach no network, wherever it is opened from.

    Parameters
    ----------
    template : str
        File in ``templates/``.
    script : str or None
        File in ``static/``.
    **values
        For the template; strings are escaped.
    """
    style, code = _static("style.css"), _static("theme.js") + _static(script) if script else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    if code:
        policy += f"; script-src {_hash(code)}"
    environment = Environment(
        loader=PackageLoader("normct.handoff"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja's own keeps "/": an ID names one folder, and must not lead out of it
    environment.filters["urlencode"] = partial(quote, safe="")
    return environment.get_template(template).render(
        stamp=f"{values['handoff_id']}, {values['date']}" if "handoff_id" in values else "not yet listed",
        policy=policy,
        style=Markup(style),  # noqa: S704  # our own files, hashed above
        script=Markup(code),  # noqa: S704
        research=RESEARCH,
        synthetic_words=SYNTHETIC,
        untrained_words=UNTRAINED,
        **values,
    )


def method_words(name: str) -> str:
    """Return who gives score and overlay, for a reader who knows no names of networks."""
    return "statistical atlas and networks together" if name == FUSED else label(name)


def ordinal_words(value: float, healthy: list[float]) -> str:
    """Put a score's place among healthy scans in words, with no more digits than their number allows."""
    n, below = len(healthy), sum(h < value for h in healthy)
    if n == 0:
        return "no healthy scans to compare with"
    if below == n:
        return f"higher than all {n} healthy scans" if n > 1 else "higher than the one healthy scan"
    if below == 0:
        return f"lower than all {n} healthy scans" if n > 1 else "not higher than the one healthy scan"
    return f"higher than {below} of {n} healthy scans"


def trust_words(uncertainty: dict[str, Any], n_healthy: int) -> list[str]:
    """Put in words how far a score's place can be trusted: the number of healthy scans, the networks' spread.

    Parameters
    ----------
    uncertainty : dict
        :attr:`normct.handoff.scores.Score.uncertainty`.
    n_healthy : int
        Healthy scans compared with.
    """
    words = []
    low, high = uncertainty["percentile_low"], uncertainty["percentile_high"]
    if low is not None:
        words.append(f"higher than {low} to {high} % of healthy scans (95 % interval)")
    low, high = uncertainty["seed_low"], uncertainty["seed_high"]
    if low is not None:
        agreed = low == high
        words.append(
            f"{'all' if agreed else 'single'} networks: higher than "
            f"{low if agreed else f'{low} to {high}'} of {n_healthy}"
        )
    if uncertainty["uncertainty"] is not None:
        words.append(f"SD of the score over {uncertainty['uncertainty_of']} {uncertainty['uncertainty']:.2g}")
    return words


def score_svg(value: float, healthy: list[float]) -> Markup:
    """Draw healthy scans as dots and this scan as a diamond on one axis."""
    low, high = min([value, *healthy]), max([value, *healthy])
    span = (high - low) or 1.0

    def x(v: float) -> float:
        return round(30 + (v - low) / span * 500, 1)

    rows: dict[int, int] = {}
    dots = []
    for score in sorted(healthy):
        cell = int(x(score) // 9)
        rows[cell] = rows.get(cell, 0) + 1
        dots.append(f'<circle class="healthy" cx="{x(score)}" cy="{62 - 9 * min(rows[cell] - 1, 5)}" r="4"/>')
    here = x(value)
    text = ordinal_words(value, healthy)
    anchor = "end" if here > 400 else "start" if here < 160 else "middle"
    return Markup(  # numbers and fixed words only  # noqa: S704
        f'<svg class="score" viewBox="0 0 560 96" role="img" aria-label="This scan scores {text}">'
        f'<line class="axis" x1="20" x2="540" y1="70" y2="70"/>{"".join(dots)}'
        f'<path class="this" d="M{here} 50l8 12l-8 12l-8 -12z"/>'
        f'<text x="{here}" y="14" text-anchor="{anchor}">this scan: {value:.3g}</text>'
        f'<line class="lead" x1="{here}" x2="{here}" y1="18" y2="48"/>'
        f'<text class="tick" x="30" y="88">{low:.3g}</text>'
        f'<text class="tick" x="530" y="88" text-anchor="end">{high:.3g}</text></svg>'
    )
