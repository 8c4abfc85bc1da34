"""Single images: reading, preparing, colours."""
