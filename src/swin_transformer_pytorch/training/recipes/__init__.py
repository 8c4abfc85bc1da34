"""Recipes: trees of frozen dataclasses, read from YAML. Nothing here imports torch."""
