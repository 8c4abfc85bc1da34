"""Images without labels, for masked pre-training."""
