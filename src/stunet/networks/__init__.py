"""Networks: a tensor in, logits out."""
