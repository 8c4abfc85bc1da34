"""What training a detector and a segmenter have in common."""
