"""Networks as plain ``torch.nn``, and their weights as safetensors. Imports nothing of ours."""

from normct.models.autoencoder import Autoencoder
from normct.models.files import ModelFileError, build_model, load_model, save_model
from normct.models.folded import fold_batch_norm

__all__ = ["Autoencoder", "ModelFileError", "build_model", "fold_batch_norm", "load_model", "save_model"]
