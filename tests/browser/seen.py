"""What is seen on a page."""

from __future__ import annotations


def names(page) -> list[str]:
    return page.locator("#worklist tbody tr:not([hidden]) td:nth-child(3)").all_inner_texts()


def shown(page) -> int:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.get_attribute("#viewer", "data-slice"))


def orange(page, canvas: str) -> dict:
    """Centre (share of width) and number of orange pixels of a canvas."""
    return page.evaluate(
        """(id) => { const c = document.getElementById(id),
        k = new OffscreenCanvas(c.width, c.height).getContext('2d', { willReadFrequently: true });
        k.drawImage(c, 0, 0);
        const d = k.getImageData(0, 0, c.width, c.height).data;
        let n = 0, x = 0;
        for (let i = 0; i < d.length; i += 4) if (d[i] - d[i + 2] > 50) { n++; x += (i / 4) % c.width; }
        return { n, x: n ? x / n / c.width : 0 }; }""",
        canvas,
    )
