"""Tiny packed slices, and settings to train on them."""

import numpy as np
import pandas as pd

from normct.train.setup import Settings

OWN = {"kl_weight": 0.1}


def settings(**changes):
    basic = {
        "method_settings": OWN, "network": {"width": 2, "latent": 4, "in_channels": 1}, "epochs": 3,
        "learning_rate": 0.003, "batch_size": 8, "plateau_factor": 0.5, "plateau_patience": 5,
        "stop_patience": 10, "gradient_clip": 1.0, "accelerator": "cpu", "precision": "32-true",
    }  # fmt: skip
    return Settings(**basic | changes)


def write_packed(folder, slices=48, channels=None, checks=8):
    folder.mkdir(parents=True, exist_ok=True)
    rng, n = np.random.default_rng(0), slices + checks
    shape = (n, 128, 128) if channels is None else (n, channels, 128, 128)
    masks = np.zeros((n, 128, 128), bool)
    masks[:, 20:110, 30:100] = True
    images = rng.random(shape, np.float32) * (masks if channels is None else masks[:, None])
    np.save(folder / "images.npy", images.astype(np.float16))
    np.save(folder / "masks.npy", np.packbits(masks, axis=-1))
    rows = [("sub-a", z, "train") for z in range(slices)] + [("sub-b", z, "stop") for z in range(checks)]
    table = pd.DataFrame(rows, columns=["participant_id", "z", "role"])
    table.to_csv(folder / "index.tsv", sep="\t", index=False)
    return folder
