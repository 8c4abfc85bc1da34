"""The GPU kernel of window attention, in Triton."""
