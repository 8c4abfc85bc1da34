"""Images with boxes and masks: COCO's format and those that become it, their transforms."""
