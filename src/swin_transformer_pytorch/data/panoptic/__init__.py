"""Data sets of images and their segments, in COCO's panoptic format."""
