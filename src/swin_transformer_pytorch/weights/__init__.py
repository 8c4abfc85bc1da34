"""Weights: the catalogue of public checkpoints, the formats they come in, downloading and loading.

Knows nothing of models but their configuration: loaders are handed the module.
"""
