"""Training: our data path and loop against bare compute and against per-slice files, and inference.

The other side of the data path is written the way the thesis's public code works: one gzipped NIfTI
a slice, read and resized at every access. Its scikit-image resize is written
out with the scipy calls it makes (Gaussian antialiasing, then ``zoom``), which spares it that library's
checks: if anything it is faster here.

Figures are CPU seconds of this process on one thread, so that a busy machine changes them little.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.entry import Entry
from normct.common.slices import DEPTH, GRID, SIZE, SliceStore, write_slices
from normct.models import build_model
from normct.pretext import geometry
from normct.pretext.patches import draw_boxes, swap_patches
from normct.score.infer import score_network
from normct.train.data import IndexBatches, PackedSlices, generator
from normct.train.objectives import OBJECTIVES
from normct.train.pack import pack
from normct.train.setup import Settings, choose_precision, make_trainer, prepare

BATCH = 64
NETWORK = {"width": 16, "latent": 256, "in_channels": 1}
METHODS = {
    "vae_kl": {"kl_weight": 1e-4},
    "cevae": {"kl_weight": 1e-4, "mixing": 0.5, "max_patch": 64},
    "context_restoration": {"swaps": 1, "patch_fraction": 0.125},
    "multitask_pretrained": {"kl_weight": 1e-4, "epsilon": "auto", "max_shift": 16},
    "denoising": {"width": 16, "noise_sigma": 0.2, "noise_grid": 16},
    "vae_variance": {"kl_weight": 0.0625, "sigma_floor": 0.02},
    "vae_dropout": {"kl_weight": 1e-4, "dropout": 0.2, "passes": 8},
}
SMALLEST_PATCH = 16


def brain_like(seed: int) -> SliceStore:
    """Return an ellipsoid with the texture of tissue; 155 slices, 141 of them with brain."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:DEPTH, :SIZE, :SIZE]
    mask = ((z - 76) / 71) ** 2 + ((y - 64) / 46) ** 2 + ((x - 64) / 37) ** 2 <= 1
    texture = ndimage.gaussian_filter(rng.standard_normal(mask.shape).astype(np.float32), 2)
    image = (0.4 + 0.6 * texture + 0.04 * rng.standard_normal(mask.shape)).clip(0, 1) * mask
    brain = np.repeat(mask.any(axis=(1, 2)), GRID * GRID).reshape(DEPTH, GRID, GRID)
    usable = mask.sum(axis=(1, 2)) >= 10
    return SliceStore(
        f"sub-{seed}", image.astype(np.float16), mask, brain, np.zeros_like(brain), usable, False
    )


def write_cohort(folder: Path) -> Path:
    """Pack three scans; return the folder of the packed slices."""
    plan = []
    for seed, role in enumerate(["train", "train", "stop"]):
        write_slices(folder / f"sub-{seed}.npz", brain_like(seed))
        path = str(folder / f"sub-{seed}.npz")
        plan.append({"participant_id": f"sub-{seed}", "patient": f"sub-{seed}", "role": role, "slices": path})
    pack(folder / "data", plan)  # type: ignore[arg-type]
    return folder / "data"


def write_slice_files(folder: Path, number: int) -> list[Path]:
    """Write slices as the thesis stores them: 240×240 HU, one gzipped NIfTI each."""
    store, paths = brain_like(0), []
    usable = np.flatnonzero(store.usable)
    for z in usable[np.linspace(0, len(usable) - 1, number).round().astype(int)]:
        image = ndimage.zoom(store.image[z].astype(np.float32), GRID / SIZE, order=1) * 80.0
        paths.append(folder / f"slice-{z}.nii.gz")
        nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), paths[-1])
    return paths


def load_slice_file(path: Path) -> NDArray[np.float32]:
    """Read, scale and resize one slice, as ``skimage.transform.resize`` with antialiasing does it."""
    image = np.asarray(nib.load(path).get_fdata()) / 80.0  # type: ignore[attr-defined]
    smooth = ndimage.gaussian_filter(image, (GRID / SIZE - 1) / 2, mode="mirror")
    return ndimage.zoom(smooth, SIZE / GRID, order=1, mode="mirror", grid_mode=True).astype(np.float32)


def swap_one(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Swap two patches of one slice in a loop over tries, as a per-sample transform does."""
    points = np.argwhere(image > 0)
    half = SMALLEST_PATCH // 2
    swapped = image.copy()
    for _ in range(20):
        first, second = points[rng.integers(len(points), size=2)].clip(half, SIZE - half)
        if np.abs(first - second).max() >= SMALLEST_PATCH:
            (a, b), (c, d) = first - half, second - half
            n = SMALLEST_PATCH
            swapped[a : a + n, b : b + n] = image[c : c + n, d : d + n]
            swapped[c : c + n, d : d + n] = image[a : a + n, b : b + n]
            break
    return swapped


def cpu_seconds(task: Callable[[], object], repeats: int = 3) -> float:
    """Return the least CPU seconds of some repeats, after one to warm up."""
    task()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def data_path(data: PackedSlices, files: list[Path]) -> tuple[float, float]:
    """Return slices a CPU second, index to augmented batch: ours and the per-slice way."""
    rows = data.rows("train").repeat(20)  # an epoch as long as a real one, which starts one thread

    def ours() -> None:
        for step, part, ready in IndexBatches(rows, BATCH, 0, data):
            images, masks = data.batch(part, ready)
            draws = generator("cpu", 0, step)
            swap_patches(images, draw_boxes(masks, SMALLEST_PATCH, draws), SMALLEST_PATCH)

    rng = np.random.default_rng(0)

    def theirs() -> None:
        np.stack([swap_one(load_slice_file(path), rng) for path in files])

    return len(rows) / cpu_seconds(ours, 5), len(files) / cpu_seconds(theirs)


class Bare:
    """The same network, objective and batch on one resident tensor: no loop, no loading, no logging."""

    def __init__(self, method: str, batch: tuple[Tensor, Tensor], *, bf16: bool, channels_last: bool) -> None:
        objective = OBJECTIVES[method](METHODS[method])
        torch.manual_seed(0)
        self.model: nn.Module = build_model(objective.network(NETWORK)).train()
        images, masks = batch
        self.device = images.device.type
        self.model = self.model.to(images.device)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            images = images.contiguous(memory_format=torch.channels_last)
        self.batch, self.objective, self.bf16 = (images, masks), objective, bf16
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-4, fused=True)
        self.draws = generator(images.device, 0)

    def step(self) -> None:
        """Take one step."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            loss = self.objective(self.model, *self.batch, self.draws).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


def loop_seconds(
    method: str, data_dir: Path, device: str = "cpu", repeats: int = 1, init: Path | None = None
) -> tuple[float, int]:
    """Return the seconds of the quicker of two epochs through our loop, after one to warm up, and its steps.

    CPU seconds on the CPU, wall seconds on a GPU, any compiling before them; ``repeats`` times the slices there are
    make an epoch.
    """
    import lightning.pytorch as pl

    def now() -> float:
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.seconds, self._start = [], 0.0

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self._start = now()

        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.seconds.append(now() - self._start)

    precision = choose_precision("auto", device)
    settings = Settings(
        method_settings=METHODS[method], network=NETWORK, epochs=3, learning_rate=1e-4, batch_size=BATCH,
        plateau_factor=0.5, plateau_patience=5, stop_patience=10, gradient_clip=1.0, accelerator=device,
        precision=precision, compile="auto",
    )  # fmt: skip
    training = prepare(method, 0, data_dir, settings, init, device, precision)
    rows = training.data.rows("train").repeat(repeats)
    steps = len(rows) // BATCH  # whole batches only, as the bare step has them
    loader = IndexBatches(rows[: steps * BATCH], BATCH, 0, training.data)
    training.module._loader = loader
    checks = IndexBatches(training.data.rows("stop")[:BATCH], BATCH, None, training.data)
    clock = Clock()
    make_trainer(settings, device, precision, [clock]).fit(training.module, loader, checks)
    return min(clock.seconds[1:]), steps


def matmul_rate(n: int = 1024) -> float:
    """Return the floating-point operations a CPU second of a float32 matrix product: what this core can do."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / cpu_seconds(lambda: a @ b, 5)


def step_flop(method: str, batch: tuple[Tensor, Tensor]) -> float:
    """Return the floating-point operations a slice of one training step, counted by PyTorch."""
    bare = Bare(method, batch, bf16=False, channels_last=True)
    with FlopCounterMode(display=False) as counter:
        bare.objective(bare.model, *bare.batch, bare.draws).loss.backward()
    return counter.get_total_flops() / len(batch[0])


def as_published(model: nn.Module) -> None:
    """Give a network PyTorch's own layers, and a latent mean that is half of what is computed, as the thesis has."""
    deep = model.to_latent
    assert isinstance(deep, nn.Conv2d)
    model.to_latent = nn.Conv2d(deep.in_channels, deep.out_channels, 4, 2, 1)
    model.latent = lambda images: model.encode(images)[0]  # type: ignore[operator]


def thesis_way(method: str, files: list[Path]) -> float:
    """Return CPU seconds a slice: per-slice files, then a float32 step with PyTorch's layers and defaults."""
    loading = cpu_seconds(lambda: np.stack([load_slice_file(path) for path in files]), 2) / len(files)
    images = torch.from_numpy(np.stack([load_slice_file(path) for path in files[:BATCH]]))[:, None]
    bare = Bare(method, (images, images[:, 0] > 0), bf16=False, channels_last=False)
    as_published(bare.model)
    bare.optimizer = torch.optim.Adam(bare.model.parameters(), 1e-4)
    return loading + cpu_seconds(bare.step, 2) / BATCH


def inference_seconds() -> Iterator[tuple[str, float]]:
    """Yield each method's seconds for one volume on two cores, the head's dozen included.

    Half the CPU seconds of one thread: the pipeline scores one scan a core, two side by side.
    """
    store = brain_like(9)
    for method, own in METHODS.items():
        objective = OBJECTIVES[method](own)
        module = build_model(objective.network(NETWORK)).eval()
        codes = geometry.balanced_dozen() if objective.head else None
        times = []
        for _ in range(2):
            start = time.process_time()
            score_network(module, store, codes, 16)
            times.append(time.process_time() - start)
        yield method, min(times) / 2


def measure() -> list[Entry]:
    """Measure on the CPU; ``bench_train_gpu`` measures a GPU."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    entries = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = write_cohort(folder)
        files = write_slice_files(folder, 2 * BATCH)
        data = PackedSlices(data_dir)
        ours, theirs = data_path(data, files)
        entries.append(Entry("train_data_path_slices_per_s", ours, "slices/s"))
        entries.append(Entry("train_data_path_speedup", ours / theirs, "x", ">= 50"))
        batch = data.batch(data.rows("train")[:BATCH])
        precision = choose_precision("auto", "cpu")
        best = {"bf16": precision == "bf16-mixed", "channels_last": True}
        bare = cpu_seconds(Bare("vae_kl", batch, **best).step)
        seconds, steps = loop_seconds("vae_kl", data_dir)
        entries.append(Entry("train_step_efficiency", bare * steps / seconds, "share", ">= 0.90"))
        seconds, steps = loop_seconds("cevae", data_dir)
        theirs = thesis_way("cevae", files)
        entries.append(Entry("train_cevae_speedup", theirs / (seconds / (steps * BATCH)), "x", ">= 3"))
        # what float32 could reach at most here: our step's arithmetic at the speed of a matrix product, nothing else
        ceiling = theirs * matmul_rate() / step_flop("cevae", batch)
        entries.append(Entry("train_cevae_fp32_ceiling", ceiling, "x"))
        plain = cpu_seconds(Bare("vae_kl", batch, bf16=False, channels_last=False).step)
        mixed = cpu_seconds(Bare("vae_kl", batch, bf16=True, channels_last=True).step)
        entries.append(Entry("train_slices_per_s_fp32", BATCH / plain, "slices/s"))
        entries.append(Entry("train_slices_per_s_bf16_channels_last", BATCH / mixed, "slices/s"))
    slowest = dict(inference_seconds())
    for method, seconds in slowest.items():
        entries.append(Entry(f"train_inference_s_{method}", seconds, "s"))
    entries.append(Entry("train_inference_s_per_volume", max(slowest.values()), "s", "<= 3"))
    torch.set_num_threads(threads)
    return entries
