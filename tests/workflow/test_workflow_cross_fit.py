"""Cross-fitting: which jobs it brings, whose networks score a training scan, and a small real run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml

from normct.common.files import read_json
from normct.common.slices import read_slices
from normct.score.build_reference import build_reference
from normct.score.calibrated_map import over_seeds, z_maps
from normct.score.files import read_maps, read_raw
from normct.score.files_calibrated import ReferenceFile, read_pooled

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1500)]

METHODS = 4  # of the demo, beside stage 1
FOLD_RULES = {"train_fold_pack", "train_fold_stage1", "train_fold_method", "score_fold_atlas"}


def counts(text):
    """Return the jobs of a dry run by rule."""
    table = text.partition("Job stats:")[2].partition("total")[0]
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def command_lines(text, module):
    """Return the commands of a dry run that call a module, each as its words."""
    lines = (line for line in text.splitlines() if f"python -m {module} " in line)
    return [line.partition(f"python -m {module} ")[2].split() for line in lines]


def after(words, option):
    """Return the words that follow an option, up to the next one."""
    following = words[words.index(option) + 1 :]
    return following[: next((n for n, word in enumerate(following) if word.startswith("-")), None)]


def test_each_fold_is_trained_without_its_patients_and_scores_them_alone(fresh):
    config = {"phantom": {"healthy_train": 5}, "train": {"seeds": [0, 1]}, "score": {"cross_fit": 2}}
    (fresh.folder / "folds.yaml").write_text(yaml.safe_dump(config))
    text = fresh.snakemake("--dry-run", "-p", extra="folds.yaml").stdout
    found = counts(text)
    assert found["train_fold_method"] == 2 * METHODS * 2
    assert found["train_fold_stage1"] == 2 * 2
    assert (found["train_method"], found["train_stage1"]) == (METHODS * 2, 2)
    assert found["train_fold_pack"] == found["score_fold_atlas"] == 2
    assert found["score_infer"] == found["score_zmap"] == 5 + 3 + 3  # training, validation, test
    assert found["score_combine"] == 3 + 3  # a training scan has no scores
    folds: dict[str, set[str]] = {"1": set(), "2": set()}
    for words in command_lines(text, "normct.score.infer"):
        read = [w for w in words if "/train/" in w or "statistical_atlas" in w]
        subject = words[0].split("/")[2]
        if after(words, "--role") != ["train"]:
            assert read and not any("folds" in word for word in read), subject
            continue
        (fold,) = after(words, "--fold")
        folds[fold].add(subject)
        # ten networks, what each records of whom it learnt from, and the atlas
        assert len(read) == 10 + 10 + 1
        assert all(f"/folds/{fold}/" in word for word in read), subject
        assert after(words, "--same-patient") == [subject]
    scans = {f"sub-healthytrain00{n}" for n in range(1, 6)}
    assert folds["1"] | folds["2"] == scans and not folds["1"] & folds["2"]
    for words in command_lines(text, "normct.score.statistical_atlas"):
        held_out = next((own for fold, own in folds.items() if f"/folds/{fold}/" in words[1]), set())
        assert set(after(words, "--subjects")) == scans - held_out
    packs = re.findall(r"rule train_fold_pack:\n    input: (.*)\n    output: \S*/folds/(\d)/", text)
    assert len(packs) == 2
    for read, fold in packs:
        assert set(re.findall(r"sub-healthytrain\d+", read)) == scans - folds[fold]
    (words,) = command_lines(text, "normct.score.calibrate")
    assert scans < set(after(words, "--subjects"))


def test_off_there_is_no_job_of_a_fold(fresh):
    text = fresh.snakemake("--dry-run", "-p").stdout
    assert not FOLD_RULES & set(counts(text))
    assert "folds" not in text.replace("Job stats", "")
    # the jobs that write the whole configuration down name the key, no other does
    named = {
        block.partition(":")[0]
        for block in re.split(r"^ *(?:local)?rule ", text, flags=re.MULTILINE)
        if "cross_fit" in block
    }
    assert named <= {"score_bundle", "evaluate_report", "handoff_index"}


def test_more_folds_than_patients_are_refused_before_any_job(fresh):
    (fresh.folder / "folds.yaml").write_text("score: {cross_fit: 9}\n")
    done = fresh.snakemake("--dry-run", extra="folds.yaml", check=False)
    assert done.returncode != 0
    assert "score.cross_fit: 9 folds of 2 usable training patients" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_scans_calibrate_and_no_reference_holds_its_own_patient(finished, tmp_path):
    """The tiny cohort with two folds, one pretrained method; from its slices on."""
    copy = finished.copy(tmp_path / "folds")
    config = {"train": {"methods": ["vae_pretrained"]}, "score": {"cross_fit": 2}}
    (copy.folder / "folds.yaml").write_text(yaml.safe_dump(config))
    out, score = copy.folder / "out", copy.folder / "out" / "score"
    before = read_json(score / "calibration.json")
    copy.snakemake("out/score/calibration.json", extra="folds.yaml")
    calibration = read_json(score / "calibration.json")
    training = ["sub-healthytrain001", "sub-healthytrain002"]
    assert calibration["n_healthy"] == before["n_healthy"] + len(training)
    assert calibration["cross_fit"] == {"folds": 2, "scans": 2}
    assert len(calibration["healthy"]["fused"]["fused"]["0"]) == calibration["n_healthy"]
    # who trained, by the networks' own word
    for subject in training:
        fold = int(read_raw(score / f"raw/{subject}.npz").arrays["fold"])
        reports = sorted((out / f"train/folds/{fold}").glob("*/seed-0/training.json"))
        assert [path.parts[-3] for path in reports] == ["context_restoration", "vae_pretrained"]
        for path in reports:
            assert read_json(path)["trained_on"]["train"] == [s for s in training if s != subject]
    reference = json.loads(str(np.load(score / "reference.npz")["settings"]))
    assert reference["patients"] == calibration["n_healthy"]
    for subject in training:
        assert read_pooled(score / f"pooled/{subject}.npz", 0.005)
    assert_made_by_others(copy, tmp_path)


def assert_made_by_others(copy, tmp_path):
    """Every calibration scan's z maps are those of a reference that its own patient's scan never was in."""
    out, score = copy.folder / "out", copy.folder / "out" / "score"
    settings = yaml.safe_load((copy.folder / "config.yaml").read_text())["score"]["calibrated"]
    table = (out / "cohort" / "participants.tsv").read_text().splitlines()
    roles = dict(line.split("\t")[0:5:4] for line in table[1:])
    scans = [s for s, role in roles.items() if role in {"train", "calibrate"}]

    def reference(subjects):
        writer = build_reference(
            score, out / "preprocess", calibrate=subjects, patients=len(subjects), settings=settings,
            stop=[s for s, role in roles.items() if role == "stop"],
        )  # fmt: skip
        writer.write(tmp_path / "reference.npz", tmp_path / "sums.npz")
        return ReferenceFile(tmp_path / "reference.npz")

    everyone = ReferenceFile(score / "reference.npz")
    for subject in scans:
        store = read_slices(out / f"preprocess/{subject}/slices.npz")
        maps, made = (read_maps(score / f"{kind}/{subject}.npz") for kind in ("maps", "calibrated"))
        others = reference([s for s in scans if s != subject])
        without, along = (over_seeds(z_maps(store, maps, r, settings)) for r in (others, everyone))
        for name in without:
            away, within = (np.abs(made[name].astype(float) - z[name]).mean() for z in (without, along))
            # float16 and sums apart
            assert away < 0.01 < 0.05 < within, (subject, name, away, within)
