"""Masked pre-training of backbones."""
