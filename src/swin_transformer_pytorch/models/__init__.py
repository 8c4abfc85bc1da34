"""Models: a backbone and a head put together. Composition only."""
