"""The Swin backbone, V1 and V2: one numerics core for every task."""
