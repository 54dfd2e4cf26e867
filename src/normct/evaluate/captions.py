"""Names and captions of the figures."""

_SIDES = (
    "Left plain scores (the thesis's, and trivial baselines), right calibrated ones: compare networks with the statistical "
    "atlas within a side, and the sides for what calibration gives."
)
_BAND = (
    "Shaded, for the best network, the statistical atlas and fused: at each abscissa the 95 % interval by bootstrap over "
    "patients, seeds averaged; none where a class has a single patient."
)
FIGURES = {
    "figure_4_1_cohort": "Figure 4.1. Scans by group and by what they were used for.",
    "figure_6_1_roc": "Figure 6.1. ROC curves on the test scans, with AUROC; with several seeds the "
    f"mean curve. {_SIDES} {_BAND}",
    "figure_6_2_pr": "Figure 6.2. Precision and recall on the test scans, with AUPR (average precision). "
    f"The black line is the prevalence: the precision of a guess. {_SIDES} {_BAND}",
    "figure_6_3_samples": "Figure 6.3. Samples: of each pathology the scan of median lesion volume, at the "
    "slice of "
    "largest lesion area, lesion outlined. Radiological convention: the patient's right is on the left of "
    "the image, "
    "anterior is up. The last columns: the calibrated map (orange denser, blue less dense than healthy scans), and "
    "what of it passes the calibrated threshold.",
    "figure_6_4_samples": "Figure 6.4. Samples, continued.",
    "figure_position": "Scores against slice position, in SD of healthy test slices: above the plain score of each "
    "map, below the calibrated one. A blue line that is not flat is the confound: the score says where a slice lies. R² "
    "is the share that position explains in patients left out of the fit.",
    "figure_froc": "FROC: lesions found against false findings a healthy test scan, as the threshold is lowered. Left "
    "the residual, right the calibrated map.",
    "figure_forest": "AUROC by pathology and subtype with 95 % intervals over patients (none with one patient): the "
    "best network with its plain and with its calibrated score, the statistical atlas, and fused.",
    "figure_lambda": "The thesis's combined score over λ, with 95 % intervals over patients: λ = 0 is the head alone, "
    "λ = 1 the residual alone.",
    "figure_calibration": "Calibration of whole scans: the specificity reached on healthy test scans against the one that "
    "thresholds were set for on the healthy calibration scans (mean over seeds), of the best network, the statistical "
    "atlas and fused. Below the line more healthy scans are flagged than was aimed at. Bars: Clopper and Pearson's 95 % "
    "interval over healthy test patients at the operating points; that the thresholds rest on few scans is not in them.",
    "figure_risk_coverage": "Risk and coverage: scans on the wrong side of the threshold as the unsure ones are left "
    "out. The dot is the error of all scans; a curve that falls to the left says the uncertainty is worth something. "
    "Dotted: the scans farthest from the threshold kept instead, which needs no uncertainty.",
    "figure_a_1_losses": "Figure A.1. Losses by epoch. The scales differ: the parts of a loss need weights.",
    "figure_a_2_validation": "Figure A.2. The validation loss alone, and by how many per cent "
    "each of the last three epochs changed it: a network that still learnt when training ended is compared too early.",
}
