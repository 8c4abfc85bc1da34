"""Images with boxes and masks: COCO's format, its transforms."""
