"""Regions of an image: boxes, masks, anchors, their assignment, suppression."""
