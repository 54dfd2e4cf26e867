"""Names and captions of the figures."""

FIGURES = {
    "figure_4_1_cohort": "Figure 4.1. Scans by group and by what they were used for.",
    "figure_6_1_roc": "Figure 6.1. ROC curves on the test scans, with AUROC. With several seeds the mean "
    "curve, "
    "shaded ± SD over seeds.",
    "figure_6_2_pr": "Figure 6.2. Precision and recall on the test scans, with AUPR (average precision). The "
    "black "
    "line is the prevalence: the precision of a guess.",
    "figure_6_3_samples": "Figure 6.3. Samples: of each pathology the scan of median lesion volume, at the "
    "slice of "
    "largest lesion area, lesion outlined. Radiological convention: the patient's right is on the left of "
    "the image, "
    "anterior is up.",
    "figure_6_4_samples": "Figure 6.4. Samples, continued.",
    "figure_a_1_losses": "Figure A.1. Losses by epoch. The scales differ: the parts of a loss need weights.",
}
