"""How far a share of few scans can be trusted."""

from __future__ import annotations


def exact_interval(k: float, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, ``k`` of ``n`` (Clopper and Pearson, Biometrika 26:404, 1934).

    Parameters
    ----------
    k : float
        A mean over seeds may be a fractional number.
    n : int
        One at least.
    """
    from scipy.stats import beta

    low = float(beta.ppf(0.025, k, n - k + 1)) if k > 1e-9 else 0.0
    return low, float(beta.ppf(0.975, k + 1, n - k)) if n - k > 1e-9 else 1.0
