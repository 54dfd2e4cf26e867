"""`torch.compile` where it pays: measured on a GPU, only when asked for on a CPU; weights keep their names."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from normct.common.errors import NormctError
from normct.train.data import ranks
from normct.train.objectives import Objective

log = logging.getLogger(__name__)

CUDA_GRAPHS = "reduce-overhead"
GPU_MODES = ("default", CUDA_GRAPHS)
"""Modes of torch.compile tried on a GPU; the second replays a step as CUDA graphs."""
WARM_UP, TIMED = 3, 10
"""Steps before the clock, and on it."""
GAIN = 1.05
"""Compiling has to be this many times faster than not: less would not pay for the minute it takes."""
TOLERANCE = 0.02
"""Relative difference of the loss that other code may make (bf16 sums in another order)."""


class Stance:
    """Says step by step whether compiled code runs: in training, on whole batches, else eager.

    Each other shape would be compiled anew (the last batch, validation, the preview), which never pays.

    Parameters
    ----------
    mode : str or None
        Of torch.compile; None compiles nothing.
    batch : int
        Slices of a whole batch.
    """

    def __init__(self, mode: str | None = None, batch: int = 0) -> None:
        self.mode, self._batch = mode, batch

    @contextlib.contextmanager
    def __call__(self, slices: int, *, training: bool) -> Iterator[None]:
        """Run a step of ``slices`` under the right stance."""
        if self.mode is None:
            yield
            return
        rank, world = ranks()
        if training and slices == len(range(rank, self._batch, world)):
            if self.mode == CUDA_GRAPHS:
                torch.compiler.cudagraph_mark_step_begin()
            yield
            return
        with eager():
            yield


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Run a network's own code, compiled or not."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled: spare the import of the compiler
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


PARTS = ("encode", "latent", "decode", "decode_gaussian", "forward")
"""What objectives call of a network. Methods rather than modules: the weights keep their names."""


def compile_parts(model: nn.Module, mode: str) -> None:
    """Compile what objectives call of a network, in place."""
    for name in PARTS:
        if hasattr(model, name):
            setattr(model, name, torch.compile(getattr(model, name), mode=mode, dynamic=False))


def choose_mode(
    setting: str | bool,
    device: str,
    model: nn.Module,
    objective: Objective,
    batch: Callable[[], tuple[Tensor, Tensor]],
    autocast: Callable[[], contextlib.AbstractContextManager],
    modes: tuple[str, ...] = GPU_MODES,
) -> str | None:
    """Return the mode of torch.compile to train with, or None.

    Parameters
    ----------
    setting : str or bool
        ``train.compile``: ``auto`` measures on a GPU and takes the fastest; on a CPU it compiles nothing, for there a
        step got slower (16.1 against 14.1 CPU ms a slice, AVX2). True compiles; False does not.
    device : str
        cpu, or a GPU as PyTorch names it.
    model : nn.Module
        On the CPU; it is measured on copies and not changed.
    objective : Objective
    batch : callable
        Returns images and masks of a whole batch, on the device.
    autocast : callable
        Returns the context that steps run in.
    modes : tuple of str
        What to try.

    Raises
    ------
    NormctError
        Where compiling on a CPU is asked for and there is no compiler.
    """
    if setting is False or (setting == "auto" and device == "cpu"):
        return None
    if device == "cpu":
        if not any(shutil.which(name) for name in ("g++", "clang++")):
            raise NormctError("train.compile is true, but there is no C++ compiler: install g++, or set auto")
        return "default"
    return fastest(device, model, objective, batch, autocast, modes, must=setting is True)


def fastest(
    device: str,
    model: nn.Module,
    objective: Objective,
    batch: Callable[[], tuple[Tensor, Tensor]],
    autocast: Callable[[], contextlib.AbstractContextManager],
    modes: tuple[str, ...],
    *,
    must: bool,
) -> str | None:
    """Time steps of copies of the network, eager and compiled; a mode that fails is left out with a warning."""
    images, masks = batch()
    images = images.contiguous(memory_format=torch.channels_last)
    times: dict[str | None, float] = {}
    losses: dict[str | None, float] = {}
    for mode in (None, *modes):
        try:
            times[mode], losses[mode] = _time(
                device, model, copy.deepcopy(objective), images, masks, autocast, mode
            )
        except Exception as error:  # any fault of the compiler: training goes on without it
            if mode is None:
                raise
            first = (str(error).splitlines() or [""])[0]
            log.warning("torch.compile (%s) does not work here: %s %s", mode, type(error).__name__, first)
            continue
        if not math.isclose(losses[mode], losses[None], rel_tol=TOLERANCE):
            log.warning("torch.compile (%s) computes another loss here; it is not used", mode)
            del times[mode]
    shown = ", ".join(f"{mode or 'eager'} {1e3 * seconds:.2f} ms" for mode, seconds in times.items())
    log.info("a step takes: %s", shown)
    compiled = [mode for mode in times if mode is not None]
    if not compiled:
        return None
    best = min(compiled, key=lambda mode: times[mode])
    return best if must or times[None] > GAIN * times[best] else None


def _time(
    device: str,
    model: nn.Module,
    objective: Objective,
    images: Tensor,
    masks: Tensor,
    autocast: Callable[[], contextlib.AbstractContextManager],
    mode: str | None,
) -> tuple[float, float]:
    """Return the seconds of a step, and the loss of the last one: the same whatever the mode."""
    tried = copy.deepcopy(model).to(device).train()
    draws = torch.Generator(device=device).manual_seed(0)
    if mode is not None:
        compile_parts(tried, mode)
    start = 0.0
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            _wait(device)
            start = time.perf_counter()
        if mode == CUDA_GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()
        with autocast():
            loss = objective(tried, images, masks, draws).loss
        tried.zero_grad(set_to_none=True)
        loss.backward()
    _wait(device)
    seconds = (time.perf_counter() - start) / TIMED
    if mode is not None:
        torch.compiler.reset()  # code of a copy that is gone must not count against the network's
    return seconds, float(loss.detach())


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
