"""Training on one GPU at the thesis's scale: speed, the whole plan's time, and the machine's limits beside it.

Leaves its entries out, with a word, where there is no GPU. Seconds here are wall seconds of the GPU's clock.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.bench_train import BATCH, METHODS, NETWORK, Bare, loop_seconds, step_flop, write_cohort
from benchmarks.entry import Entry
from normct.models import build_model, save_model
from normct.train.data import PackedSlices
from normct.train.objectives import OBJECTIVES

SLICES = 16_500
"""Slices the thesis trains on."""
VALIDATION = 0.25
SEEDS = 5
EPOCHS = {
    "context_restoration": 100, "vae_pretrained": 100, "multitask_pretrained": 100, "vae_kl": 200, "cevae": 200,
}  # fmt: skip
"""Epochs of the thesis's five methods: 100 a stage, as many steps for those without a first stage."""


class Traffic(TorchDispatchMode):
    """Counts the bytes of every operation's inputs and outputs: what a step moves if nothing stays in a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation; a view moves nothing."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves((args, kwargs, result)):
                if isinstance(leaf, torch.Tensor):
                    self.bytes += leaf.numel() * leaf.element_size()
        return result


def gpu_seconds(task: Callable[[], object], repeats: int = 20) -> float:
    """Return the wall seconds of a task, after three to warm up."""
    for _ in range(3):
        task()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        task()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def plan_minutes(rates: dict[str, float]) -> float:
    """Return the minutes of five methods and five seeds one after another, from slices a second of each method.

    Validation is a forward pass, a third of a step, over a quarter as many slices.
    """
    return (
        (1 + VALIDATION / 3)
        * sum(SEEDS * epochs * SLICES / rates[method] for method, epochs in EPOCHS.items())
        / 60
    )


def limits() -> dict[str, float]:
    """Return what this GPU does at most: bf16 matrix products (FLOP/s) and copies (bytes/s), measured."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    big = torch.empty(2**28, device="cuda")
    other = torch.empty_like(big)
    return {
        "flop": 2 * 8192**3 / gpu_seconds(lambda: a @ a),
        "bytes": 2 * big.numel() * 4 / gpu_seconds(lambda: other.copy_(big)),
    }


def syncs_per_step(data: PackedSlices) -> float:
    """Return how often a step makes Python wait for the GPU; PyTorch warns of each."""
    batch = data.batch(data.rows("train")[:BATCH])
    count = 0
    for method in METHODS:
        bare = Bare(method, batch, bf16=True, channels_last=True)
        bare.step()
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bare.step()
        torch.cuda.set_sync_debug_mode("default")
        count += sum("synchroniz" in str(warning.message) for warning in caught)
    return count / len(METHODS)


def measure() -> list[Entry]:
    """Measure where there is a GPU."""
    if not torch.cuda.is_available():
        print("train_gpu: PyTorch finds no GPU, nothing is measured", file=sys.stderr)
        return []
    print(f"train_gpu: {torch.cuda.get_device_name()}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data_dir = write_cohort(folder)
        data = PackedSlices(data_dir)
        repeats = -(-SLICES // len(data.rows("train")))
        network = OBJECTIVES["context_restoration"](METHODS["context_restoration"]).network(NETWORK)
        init = folder / "stage1.safetensors"
        save_model(
            init, build_model(network), {"method": "context_restoration", "seed": 0, "network": network}
        )
        rates: dict[str, float] = {}
        for method in ("vae_kl", "cevae", "context_restoration", "multitask_pretrained"):
            start = init if method == "multitask_pretrained" else None
            seconds, steps = loop_seconds(method, data_dir, "cuda", repeats, start)
            rates[method] = steps * BATCH / seconds
        rates["vae_pretrained"] = rates["vae_kl"]  # the same network and loss
        flop = step_flop("vae_kl", data.batch(data.rows("train")[:BATCH]))
        data.to(torch.device("cuda"))
        batch = data.batch(data.rows("train")[:BATCH])
        bare = Bare("vae_kl", batch, bf16=True, channels_last=True)
        with Traffic() as traffic:
            bare.step()
        most, syncs = limits(), syncs_per_step(data)
    speed = rates["vae_kl"]
    return [
        Entry("train_gpu_slices_per_s", speed, "slices/s", ">= 50000"),
        *(Entry(f"train_gpu_slices_per_s_{method}", rate, "slices/s") for method, rate in rates.items()),
        Entry("train_gpu_plan_minutes", plan_minutes(rates), "min", "<= 20"),
        Entry("train_gpu_loop_efficiency", gpu_seconds(bare.step) * speed / BATCH, "share"),
        Entry("train_gpu_flop_per_s", speed * flop, "FLOP/s"),
        Entry("train_gpu_flop_limit", most["flop"], "FLOP/s"),
        Entry("train_gpu_bytes_per_s", speed * traffic.bytes / BATCH, "B/s"),
        Entry("train_gpu_bytes_limit", most["bytes"], "B/s"),
        Entry("train_gpu_syncs_per_step", syncs, "syncs", "<= 0"),
    ]
