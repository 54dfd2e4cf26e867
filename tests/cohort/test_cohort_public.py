"""Importers of public sets, on tiny folders laid out as published; their tables must load."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from factories import head_hu, save_nifti
from normct.cohort import import_cq500, import_ctich
from normct.cohort.check import check_files
from normct.cohort.public import bleed_label
from normct.cohort.table import load_participants
from normct.common.errors import ConfigError

FINDINGS = [
    "ICH",
    "IPH",
    "IVH",
    "SDH",
    "EDH",
    "SAH",
    "BleedLocation-Left",
    "BleedLocation-Right",
    "ChronicBleed",
    "Fracture",
    "CalvarialFracture",
    "OtherFracture",
    "MassEffect",
    "MidlineShift",
]


def read(number, **votes):
    """One row of reads.csv; votes by finding, 0 to 3 readers."""
    row = {"name": f"CQ500-CT-{number}", "Category": "B1"}
    for n in range(3):
        row |= {f"R{n + 1}:{name}": int(votes.get(name.replace("-", ""), 0) > n) for name in FINDINGS}
    return row


@pytest.fixture
def cq500(tmp_path):
    folder = tmp_path / "CQ 500"
    reads = [
        *(read(n) for n in range(3)),
        read(3, ICH=3, IPH=2, SDH=1),
        read(4, ICH=2, SDH=3, SAH=2, IPH=2),
        read(5, ICH=1, IPH=1, MassEffect=1),
        read(6, MidlineShift=2),
        read(10, ICH=3),
        read(11) | {"R2:ICH": ""},
        read(99),
    ]
    for row in reads[:-1]:
        number = row["name"].rsplit("-", 1)[1]
        scan = folder / f"CQ500CT{number} CQ500CT{number}" / "Unknown Study" / "CT Plain"
        scan.mkdir(parents=True)
        (scan / "CT000000.dcm").write_bytes(number.encode())
    with (folder / "reads.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(reads[0]))
        writer.writeheader()
        writer.writerows(reads)
    return folder


def test_cq500_majority_of_three(cq500, tmp_path, settings, caplog):
    table = import_cq500.import_cq500(cq500, tmp_path / "my")
    people = {p.participant_id.removeprefix("sub-CQ500CT"): p for p in load_participants(table, settings)}
    assert {n: p.group for n, p in people.items()} == {
        "0": "healthy", "1": "healthy", "2": "healthy", "3": "abnormal", "4": "abnormal",
        "5": "healthy", "6": "unlabelled", "10": "abnormal", "11": "unlabelled",
    }  # fmt: skip
    assert (people["3"].pathology, people["3"].subtype) == ("icb", "intraparenchymal")
    assert (people["4"].pathology, people["4"].subtype) == ("bleed", "subdural+intraparenchymal+subarachnoid")
    assert (people["10"].pathology, people["10"].subtype) == ("icb", None)
    assert people["10"].ct.endswith("CQ500CT10 CQ500CT10")
    assert "1 scans of reads.csv are not in the folder" in caplog.text


def test_cq500_of_another_layout(cq500, tmp_path):
    with pytest.raises(ConfigError, match=r"reads\.csv: no such file"):
        import_cq500.main([str(tmp_path / "none"), str(tmp_path)])
    reads = cq500 / "reads.csv"
    reads.write_text(reads.read_text().replace("R3:MassEffect", "R3:Mass"))
    with pytest.raises(ConfigError, match="no column 'R3:MassEffect'"):
        import_cq500.import_cq500(cq500, tmp_path)
    reads.write_text(reads.read_text().replace("R3:Mass", "R3:MassEffect").replace("CQ500-CT-", "CQ500-CT-7"))
    with pytest.raises(ConfigError, match="no scan of its table was found"):
        import_cq500.import_cq500(cq500, tmp_path)


@pytest.fixture
def ctich(tmp_path):
    folder = tmp_path / "ct-ich-1.3.1"
    for name in ("ct_scans", "masks"):
        (folder / name).mkdir(parents=True)
    header = "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    lines = [header + "No_Hemorrhage,Fracture_Yes_No"]
    for number in range(49, 56):
        save_nifti(folder / "ct_scans" / f"{number:03d}.nii", head_hu(number))
        mask = np.zeros(head_hu().shape)
        mask[20:23, 20:23, 10] = 255
        save_nifti(folder / "masks" / f"{number:03d}.nii", mask, dtype=np.uint8)
        for z in (1, 2, 3):
            flags = {50: "0,1,0,0,0" if z == 2 else "0,0,0,0,0", 51: "0,0,0,1,0" if z > 1 else "1,0,0,0,0"}
            bleeds = flags.get(number, "0,0,0,0,0")
            lines.append(f"{number},{z},{bleeds},{int('1' not in bleeds)},{int(number == 52)}")
    lines.append("60,1,0,0,0,0,0,1,0")
    (folder / "hemorrhage_diagnosis_raw_ct.csv").write_text("\n".join(lines))
    (folder / "patient_demographics.csv").write_text(
        'Patient Number,"Age\n(years)",Gender,Hemorrhage type,,Fracture\n,,,Intraventricular,Subdural,\n'
        "49,23,Male,,,\n50,0.5,Female,,1,\n51,unknown,,,,\n"
    )
    return folder


def test_ctich_any_slice(ctich, tmp_path, settings, capsys):
    import_ctich.main([str(ctich), str(tmp_path / "my")])
    table = tmp_path / "my" / "participants.tsv"
    assert capsys.readouterr().out.strip() == str(table)
    people = load_participants(table, settings)
    assert [p.participant_id[-3:] for p in people] == [f"{n:03d}" for n in range(49, 56)]
    assert [p.group for p in people] == ["healthy", "abnormal", "abnormal", "unlabelled"] + ["healthy"] * 3
    assert [(p.pathology, p.subtype) for p in people[1:3]] == [
        ("icb", "intraparenchymal"),
        ("bleed", "epidural+intraventricular"),
    ]
    assert [p.lesion_mask is not None for p in people] == [False, True, True] + [False] * 4
    assert [(p.age, p.sex) for p in people[:3]] == [(23.0, "M"), (0.5, "F"), (None, None)]
    assert check_files(people, settings, tmp_path / "checked.json", 2) == []


def test_label_of_equal_evidence():
    assert bleed_label({"subdural": 2, "intraventricular": 2}) == ("icb", "intraventricular+subdural")
