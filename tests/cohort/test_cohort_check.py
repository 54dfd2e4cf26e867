"""The pass over the bytes before any job: faults in one list, instant the second time, no path kept."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from factories import head_hu, save_nifti
from normct.cohort import check, nifti
from normct.cohort.check import check_files, with_file_faults
from normct.cohort.table import TableError, load_participants
from normct.common.errors import ConfigError


def test_every_fault_in_one_list_naming_subject_file_and_remedy(cohort, settings):
    folder = cohort.folder
    shutil.copy(folder / "ct 1é.nii.gz", folder / "copy.nii.gz")
    cohort.add(5, ct="copy.nii.gz")
    (folder / "text.nii.gz").write_text("hello")
    cohort.add(6, ct="text.nii.gz")
    whole = (folder / "ct 2é.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    cohort.add(7, ct="cut.nii.gz")
    save_nifti(folder / "mask.nii.gz", np.zeros((4, 4, 4)), dtype=np.uint8)
    cohort.rows[3]["lesion_mask"] = "mask.nii.gz"
    save_nifti(folder / "4d.nii.gz", np.stack([head_hu()] * 3, -1))
    cohort.add(8, ct="4d.nii.gz")
    people = load_participants(cohort.write(), settings)
    with pytest.raises(ConfigError) as caught:
        check_files(people, settings, folder / "checked.json", 2)
    expected = [
        "sub-004: lesion_mask: its shape 4×4×4 is not that of ct, 48×56×32. "
        "Draw or resample it on the grid of ct",
        "sub-005: ct: the same bytes as ct of sub-001. Keep one of the two rows",
        "sub-006: ct: not a NIfTI file. Give .nii or .nii.gz, or the DICOM folder itself",
        "sub-007: ct: a damaged or truncated gzip file. Copy or export the file again",
        "sub-008: ct: 4-D (48×56×32×3); one volume is needed. Export a single 3-D volume",
    ]
    assert caught.value.faults == expected
    aside = settings | {"on_bad_file": "set_aside"}
    with pytest.raises(ConfigError) as caught:  # one scan under two IDs would be counted twice
        check_files(people, aside, folder / "checked.json", 2)
    assert caught.value.faults == expected[1:2]
    people = [p for p in people if p.participant_id != "sub-005"]
    del expected[1]
    assert [str(fault) for fault in check_files(people, aside, folder / "checked.json", 2)] == expected


def test_new_scans_may_be_twins_and_none_is_refused(cohort, settings):
    shutil.copy(cohort.folder / "ct 1é.nii.gz", cohort.folder / "copy.nii.gz")
    cohort.add(5, ct="copy.nii.gz")
    cohort.add(6, ct="gone.nii.gz", skip=1)
    people = load_participants(cohort.write(), settings, new=True)
    faults = check_files(people, settings, cohort.folder / "checked.json", 2, new=True)
    assert [str(fault) for fault in faults] == ["sub-006: ct: no such file. Mend the path in the table"]


def test_second_run_reads_only_what_changed(cohort, settings, monkeypatch):
    people = load_participants(cohort.write(), settings)
    cache = cohort.folder / "results" / "checked.json"
    read = []
    plain = nifti.read_scan
    monkeypatch.setattr(nifti, "read_scan", lambda path, *a, **k: read.append(path) or plain(path, *a, **k))
    assert check_files(people, settings, cache, 2) == []
    assert sorted(read) == sorted(p.ct for p in people)
    assert str(cohort.folder) not in cache.read_text()
    assert "ct 1" not in cache.read_text()
    written = cache.stat().st_mtime_ns
    read.clear()
    assert check_files(people, settings, cache, 2) == []
    assert read == []
    assert cache.stat().st_mtime_ns == written
    (cohort.folder / "ct 2é.nii.gz").write_bytes(b"broken now")
    with pytest.raises(ConfigError, match="sub-002: ct: not a NIfTI file"):
        check_files(people, settings, cache, 2)
    assert read == [people[1].ct]
    # a file set right again is found right
    save_nifti(cohort.folder / "ct 2é.nii.gz", head_hu(7))
    assert check_files(people, settings, cache, 2) == []


def test_known_faults_stay_faults_and_a_damaged_cache_is_made_anew(cohort, settings):
    (cohort.folder / "text.nii").write_text("hello")
    cohort.add(5, ct="text.nii")
    people = load_participants(cohort.write(), settings)
    cache = cohort.folder / "checked.json"
    for _ in range(2):
        with pytest.raises(ConfigError, match="sub-005: ct: not a NIfTI file"):
            check_files(people, settings, cache, 1)
    cache.write_text("{half")
    with pytest.raises(ConfigError, match="sub-005"):
        check_files(people, settings, cache, 1)
    assert json.loads(cache.read_text())["version"] == check.VERSION


def test_missing_file_is_told_under_set_aside(cohort, settings):
    cohort.add(5, ct="gone.nii", skip=1)
    settings = settings | {"on_bad_file": "set_aside"}
    people = load_participants(cohort.write(), settings)
    faults = check_files(people, settings, cohort.folder / "checked.json", 1)
    assert [str(f) for f in faults] == ["sub-005: ct: no such file. Mend the path in the table"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(cohort, settings):
    (cohort.folder / "ct 1é.nii.gz").chmod(0)
    people = load_participants(cohort.write(), settings)
    with pytest.raises(ConfigError, match="sub-001: ct: the file may not be read"):
        check_files(people, settings, cohort.folder / "checked.json", 1)


def test_faults_of_the_table_and_of_the_files_in_one_list(cohort, settings, capsys):
    cohort.add(5, ct="gone.nii.gz", skip=1)
    (cohort.folder / "text.nii.gz").write_text("hello")
    cohort.add(6, ct="text.nii.gz", age="old")
    save_nifti(cohort.folder / "mask.nii.gz", np.zeros((4, 4, 4)), dtype=np.uint8)
    cohort.rows[3]["lesion_mask"] = "mask.nii.gz"
    cache = cohort.folder / "results" / "checked.json"
    with pytest.raises(TableError) as caught:
        load_participants(cohort.write(), settings)
    all_faults = with_file_faults(caught.value, settings, cache, 2)
    assert "sub-005, ct: no such file" in capsys.readouterr().err  # told at once: reading may take minutes
    assert [fault.split(". ")[0] for fault in all_faults.faults] == [
        "line 6, sub-005, ct: no such file: gone.nii.gz; paths start at the table's folder",
        "line 7, sub-006, age: 'old' is not allowed; give years, such as 63 or 89+",
        "sub-004: lesion_mask: its shape 4×4×4 is not that of ct, 48×56×32",
        "sub-006: ct: not a NIfTI file",
    ]
    assert with_file_faults(caught.value, settings | {"on_bad_file": "set_aside"}, cache, 2) is caught.value


def test_progress_is_told_and_what_was_read_is_kept(cohort, settings, monkeypatch, capsys):
    people = load_participants(cohort.write(), settings)
    cache = cohort.folder / "checked.json"
    monkeypatch.setattr(check, "TELL", 0)
    check_files(people, settings, cache, 1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("  1 of 4 files read, 25 %, about 1 minute left")
    assert lines[-1] == "  4 of 4 files read, 100 %"
    cache.unlink()
    plain = nifti.read_scan

    def stopped(path, *args, **kwargs):
        if path == people[2].ct:
            raise KeyboardInterrupt
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(nifti, "read_scan", stopped)
    with pytest.raises(KeyboardInterrupt):
        check_files(people, settings, cache, 1)
    assert len(json.loads(cache.read_text())["files"]) == 2


def test_a_pipe_is_refused_not_waited_for(cohort, settings):
    os.mkfifo(cohort.folder / "pipe.nii.gz")
    cohort.add(5, ct="pipe.nii.gz")
    with pytest.raises(ConfigError, match=r"sub-005, ct: neither a file nor a folder: pipe\.nii\.gz"):
        load_participants(cohort.write(), settings)
    people = load_participants(cohort.write(), settings | {"on_bad_file": "set_aside"})
    with pytest.raises(ConfigError, match=r"sub-005: ct: neither a file nor a folder\. Mend the path"):
        check_files(people, settings, cohort.folder / "checked.json", 1)


def test_command_line(cohort, capsys):
    path = cohort.write()
    check.main([str(path)])
    assert capsys.readouterr().out == "4 scans, no faults found\n"
    (cohort.folder / "ct 1é.nii.gz").write_text("no")
    with pytest.raises(ConfigError, match="sub-001"):
        check.main([str(path), "--new", "--workers", "1"])
    with pytest.raises(ConfigError, match=r"(?s)the files it names have.*unknown group.*sub-001: ct"):
        check.main([str(cohort.write(text=path.read_text().replace("healthy", "helthy")))])
