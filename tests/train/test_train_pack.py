"""Packing: the right slices in the right order, and no leak."""

import numpy as np
import pandas as pd
import pytest
import torch

from factories import make_store
from normct.common.errors import NormctError
from normct.common.files import read_json, sha256
from normct.common.slices import empty_store, write_slices
from normct.train.data import IndexBatches, MappedRows, PackedSlices, derived_seed, unpack_bits
from normct.train.pack import check_plan, pack


def scan(name, role="train", patient=None, path=""):
    return {"participant_id": name, "patient": patient or name, "role": role, "slices": str(path)}


def plan_of(folder, *rows):
    plan = []
    for seed, (name, role) in enumerate(rows):
        write_slices(folder / f"{name}.npz", make_store(name, seed))
        plan.append(scan(name, role, path=folder / f"{name}.npz"))
    return plan


def test_slices_and_masks_come_back(tmp_path):
    plan = plan_of(tmp_path, ("sub-c", "stop"), ("sub-b", "train"), ("sub-a", "train"))
    write_slices(tmp_path / "aside.npz", empty_store("sub-aside"))
    plan.append(scan("sub-aside", path=tmp_path / "aside.npz"))
    counts = pack(tmp_path / "data", plan)
    data = PackedSlices(tmp_path / "data")
    stores = {name: make_store(name, seed) for seed, name in enumerate(["sub-c", "sub-b", "sub-a"])}
    usable = {name: int(store.usable.sum()) for name, store in stores.items()}
    assert counts == {"train": usable["sub-a"] + usable["sub-b"], "stop": usable["sub-c"]}
    assert data.participants("train") == ["sub-a", "sub-b"]
    assert data.participants("stop") == ["sub-c"]
    for row in (0, counts["train"] - 1, len(data.index) - 1):
        name, z, _ = data.index.iloc[row]
        images, masks = data.batch(torch.tensor([row]))
        assert np.array_equal(images[0, 0].numpy(), stores[name].image[z].astype(np.float32))
        assert np.array_equal(masks[0].numpy(), stores[name].mask[z])
    assert not list((tmp_path / "data").glob(".part*"))
    recorded = read_json(tmp_path / "data" / "content.json")
    assert recorded == {name: sha256(tmp_path / "data" / f"{name}.npy") for name in ("images", "masks")}


def test_blank_slices_are_left_out(tmp_path):
    pack(tmp_path / "data", plan_of(tmp_path, ("sub-a", "train"), ("sub-b", "stop")))
    index = pd.read_csv(tmp_path / "data" / "index.tsv", sep="\t")
    store = make_store("sub-a", 0)
    assert index.loc[index.participant_id == "sub-a", "z"].tolist() == np.flatnonzero(store.usable).tolist()
    assert len(index) < 2 * len(store.usable)


@pytest.mark.parametrize("role", ["calibrate", "test", "unlabelled"])
def test_no_other_role_is_packed(role):
    with pytest.raises(NormctError, match=r"must not train.*sub-b"):
        check_plan([scan("sub-a"), scan("sub-b", role)])


def test_no_patient_in_training_and_in_early_stopping():
    with pytest.raises(NormctError, match="patients both"):
        check_plan([scan("sub-a", "train", "P1"), scan("sub-b", "stop", "P1")])


def test_no_scan_twice():
    with pytest.raises(NormctError, match="twice"):
        check_plan([scan("sub-a"), scan("sub-a")])


def test_nothing_to_stop_on_is_said_and_nothing_is_written(tmp_path):
    with pytest.raises(NormctError, match="early stopping"):
        pack(tmp_path / "data", plan_of(tmp_path, ("sub-a", "train")))
    assert not (tmp_path / "data").exists()


def test_a_tampered_index_is_refused(tmp_path):
    pack(tmp_path / "data", plan_of(tmp_path, ("sub-a", "train"), ("sub-b", "stop")))
    table = tmp_path / "data" / "index.tsv"
    table.write_text(table.read_text().replace("sub-b", "sub-a"))
    with pytest.raises(NormctError, match="both in training and in early stopping"):
        PackedSlices(tmp_path / "data")


def test_batches_are_a_permutation_that_depends_on_seed_and_epoch_only():
    rows = torch.arange(10, 60)

    def order(seed, epoch):
        batches = IndexBatches(rows, 16, seed)
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert [step for step, _, _ in drawn] == list(range(len(batches)))
        return torch.cat([r for _, r, _ in drawn]).tolist()

    assert sorted(order(1, 0)) == rows.tolist()
    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(s, e)) for s in (1, 2) for e in (0, 1)}) == 4
    assert torch.cat([r for _, r, _ in IndexBatches(rows, 16)]).tolist() == rows.tolist()


def test_batches_go_on_in_mid_epoch():
    whole = IndexBatches(torch.arange(50), 8, 5)
    whole.set_epoch(3)
    rest = IndexBatches(torch.arange(50), 8, 5)
    whole.done = 4
    rest.load_state_dict(whole.state_dict())
    expected = list(whole)[4:]
    for (step, drawn, _), (wanted_step, wanted, _) in zip(rest, expected, strict=True):
        assert step == wanted_step
        assert torch.equal(drawn, wanted)
    assert len(list(rest)) == 7  # the next epoch is whole again


def test_derived_seeds_differ_and_repeat():
    seeds = {derived_seed(0, "train", e, s) for e in range(20) for s in range(50)}
    assert len(seeds) == 1000
    assert derived_seed(0, "train", 3, 4) == derived_seed(0, "train", 3, 4)


def test_the_record_is_gone_before_other_pixels_are_there(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, ("sub-a", "train"), ("sub-b", "stop"))
    pack(tmp_path / "data", plan)
    monkeypatch.setattr("normct.train.pack.read_slices", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(tmp_path / "data", plan)
    assert not (tmp_path / "data" / "content.json").exists()


def test_a_resident_copy_gives_the_batches_of_the_mapped_one(tmp_path, monkeypatch):
    """What a GPU does, forced on the CPU: copied in blocks, the last one smaller."""
    pack(tmp_path / "data", plan_of(tmp_path, ("sub-a", "train"), ("sub-b", "stop")))
    mapped, resident = PackedSlices(tmp_path / "data"), PackedSlices(tmp_path / "data")
    monkeypatch.setattr("normct.train.data.BLOCK", 11)
    at_once, read = [], MappedRows.read
    with monkeypatch.context() as patch:
        patch.setattr(MappedRows, "read", lambda self, rows: (at_once.append(len(rows)), read(self, rows))[1])
        patch.setattr(PackedSlices, "_fits", lambda self, device: True)
        resident.to(torch.device("cpu"))
        number = len(at_once)
        assert max(at_once) == 11  # never all at once in the host's memory
        rows = torch.randperm(len(mapped.index), generator=torch.Generator().manual_seed(0))
        images, masks = resident.batch(rows)
        assert len(at_once) == number  # nothing came from the file
    assert resident.resident and not mapped.resident
    assert len(rows) % 11
    for got, wanted in zip((images, masks), mapped.batch(rows), strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted)
    assert all(ready is None for _, _, ready in IndexBatches(rows, 16, 0, resident))


def test_bits_are_unpacked_on_any_device_as_numpy_does_it():
    bits = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 16)
    assert np.array_equal(unpack_bits(bits).numpy(), np.unpackbits(bits.numpy(), axis=-1))
    assert unpack_bits(bits).dtype == torch.bool
