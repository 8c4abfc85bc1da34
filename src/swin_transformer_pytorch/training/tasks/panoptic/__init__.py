"""Training of panoptic segmenters."""
