"""Short trainings on phantom heads: the head tells rotations, and context restoration restores."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from normct.common.slices import DEPTH, GRID, SIZE, SliceStore, write_slices
from normct.models import load_model
from normct.phantom.brain import draw_involution, shape_brain, ventricle_shift
from normct.phantom.template import template
from normct.pretext.geometry import all_36, transform
from normct.pretext.patches import draw_boxes, swap_patches, swapped_pixels
from normct.train.data import generator
from normct.train.fit import fit
from normct.train.pack import pack
from normct.train.setup import Settings

pytestmark = pytest.mark.slow


def healthy_slices(name, age):
    """A phantom's brain as it lies in the atlas: no skull, scanner or registration, which others test."""
    rng, base = np.random.default_rng(age), template()
    involution = draw_involution(rng, age)
    brain = shape_brain(base, involution, ventricle_shift(base, involution))
    mask = brain.mask
    hu = np.where(mask, brain.hu() + rng.normal(0, 3, mask.shape), 0.0)
    z = np.linspace(0, mask.shape[2] - 1, DEPTH).round().astype(int)
    spare = [(GRID - n) // 2 for n in mask.shape[:2]]
    edges = [(a, GRID - n - a) for a, n in zip(spare, mask.shape[:2], strict=True)]
    image, inside = np.zeros((DEPTH, SIZE, SIZE), np.float16), np.zeros((DEPTH, SIZE, SIZE), bool)
    for i, k in enumerate(z):
        for out, part, order in ((image, hu[..., k].T / 80, 1), (inside, mask[..., k].T, 0)):
            full = np.pad(part.astype(np.float32), edges[::-1])
            out[i] = ndimage.zoom(full, SIZE / GRID, order=order, grid_mode=True, mode="grid-constant")
    usable = inside.sum(axis=(1, 2)) >= 10
    coarse = np.zeros((DEPTH, GRID, GRID), bool)
    return SliceStore(name, image.clip(0, 1) * inside, inside, coarse, coarse, usable, False)


def settings(epochs, **own):
    return Settings(
        method_settings=own, network={"width": 8, "latent": 64, "in_channels": 1}, epochs=epochs,
        learning_rate=0.003, batch_size=16, plateau_factor=0.5, plateau_patience=5, stop_patience=50,
        gradient_clip=1.0, accelerator="cpu", precision="32-true",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learns")
    plan = []
    for name, age, role in (("sub-a", 30, "train"), ("sub-b", 75, "train"), ("sub-c", 60, "stop")):
        write_slices(folder / f"{name}.npz", healthy_slices(name, age))
        path = str(folder / f"{name}.npz")
        plan.append({"participant_id": name, "patient": name, "role": role, "slices": path})
    pack(folder / "data", plan)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fit("context_restoration", 0, folder / "data", folder / "cr", settings(5, swaps=1, patch_fraction=0.125))
    multitask = settings(26, kl_weight=1e-4, epsilon="auto", max_shift=16)
    init = folder / "cr" / "model.safetensors"
    fit("multitask_pretrained", 0, folder / "data", folder / "mt", multitask, init=init)
    torch.set_num_threads(threads)
    held_out = healthy_slices("sub-d", 50)
    usable = held_out.usable
    images = torch.from_numpy(held_out.image[usable].astype(np.float32))[:, None]
    return folder, images, torch.from_numpy(held_out.mask[usable])


@torch.inference_mode()
def test_the_head_tells_rotations_of_a_brain_it_has_not_seen(trained):
    folder, images, _ = trained
    model, _ = load_model(folder / "mt" / "model.safetensors")
    right = []
    for code in all_36()[::5]:
        codes = code.expand(len(images), 3)
        logits = model.head_logits(transform(images, codes, 16))
        right.append((logits[:, :4].argmax(1) == codes[:, 0]).float().mean())
    assert float(torch.stack(right).mean()) > 0.9


@torch.inference_mode()
def test_context_restoration_beats_leaving_the_patches_swapped(trained):
    folder, images, masks = trained
    model, _ = load_model(folder / "cr" / "model.safetensors")
    boxes = draw_boxes(masks, 16, generator("cpu", 7))
    swapped = swap_patches(images, boxes, 16)
    where = swapped_pixels(boxes, 16, (SIZE, SIZE)).float()
    restored = ((model.reconstruct(swapped) - images).square() * where).sum()
    left = ((swapped - images).square() * where).sum()
    assert restored < left
