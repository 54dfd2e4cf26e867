"""Networks: pure torch.nn, importing nothing of ours."""
