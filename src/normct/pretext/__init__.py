"""Pretext tasks: pure functions of tensors, vectorised over the batch, on the tensors' device."""
