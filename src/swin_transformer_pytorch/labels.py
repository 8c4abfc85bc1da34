"""What the values of label maps stand for."""

IGNORED = 255
"""The label of pixels that count neither in training nor in evaluation; label maps are bytes."""
