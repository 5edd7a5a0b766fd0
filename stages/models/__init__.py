"""Load, cut and initialise models; one call gives logits and hidden states."""
