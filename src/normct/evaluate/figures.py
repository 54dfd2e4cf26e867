"""Figures of the thesis, as PNG and SVG: 4.1, 6.1, 6.2, 6.3, 6.4 and A.1; and A.2, the validation loss."""

from __future__ import annotations

import logging
from pathlib import Path

from normct.common.cli import run
from normct.common.files import read_json
from normct.evaluate import style
from normct.evaluate.arguments import command_line

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    words = ("collected", "preprocess", "maps", "z-maps", "calibration")
    p = command_line(__doc__, "normct.evaluate.figures", *words, settings="slices, bootstrap, seed")
    p.add_argument("--train", required=True, help="folder R/train")
    p.add_argument("--networks", nargs="*", default=[], help="<method>/seed-<n> whose losses are drawn")
    p.add_argument("--tables", required=True, help="folder with detection_summary.csv and cohort.csv")
    args = p.parse_args(argv)
    style.use()
    from normct.evaluate import bands, curves, losses, panels
    from normct.evaluate import protocols as pr
    from normct.evaluate.data import accepted_test, read_cohort, read_slice_scores, read_volume_scores
    from normct.evaluate.metrics import draw_patients
    from normct.evaluate.tables import read_csv

    scans = accepted_test(read_cohort(args.collected))
    slices = read_slice_scores(args.collected, scans, args.settings["slices"])
    volumes = read_volume_scores(args.collected, scans)
    summary = read_csv(Path(args.tables) / "detection_summary.csv")
    style.save(
        curves.cohort_figure(read_csv(Path(args.tables) / "cohort.csv")), args.out, "figure_4_1_cohort"
    )
    strata = pr.make_strata(scans)
    draws = min(bands.DRAWS, args.settings["bootstrap"])
    counts = draw_patients(strata.stratum, draws, args.settings["seed"])
    for kind, name in (("roc", "figure_6_1_roc"), ("pr", "figure_6_2_pr")):
        figure = curves.detection_figure(kind, slices, volumes, summary, strata, counts)
        style.save(figure, args.out, name)
    pathology = dict(zip(scans["participant_id"], scans["pathology"], strict=True))
    chosen = panels.representative(slices.units)
    thresholds = read_json(args.calibration)["calibrated"]["thresholds"]
    samples = [
        panels.take_sample(sub, pathology[sub], args.maps, args.preprocess, args.z_maps, thresholds)
        for sub in chosen
    ]
    for name, part in (
        ("figure_6_3_samples", samples[: panels.ROWS]),
        ("figure_6_4_samples", samples[panels.ROWS :]),
    ):
        empty = "No further pathology." if samples else "No abnormal test scan with a lesion mask."
        style.save(panels.panel_figure(part) if part else panels.note_figure(empty), args.out, name)
    histories = losses.read_histories(args.train, args.networks)
    for draw, name in (
        (losses.loss_figure, "figure_a_1_losses"),
        (losses.validation_figure, "figure_a_2_validation"),
    ):
        figure = draw(histories) if histories else panels.note_figure("No training history.")
        style.save(figure, args.out, name)
    log.info("%d samples, %d training histories", len(samples), sum(map(len, histories.values())))


if __name__ == "__main__":
    run(main)
