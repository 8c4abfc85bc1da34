"""Scenes composed of Fashion-MNIST's items, for detection and segmentation."""
