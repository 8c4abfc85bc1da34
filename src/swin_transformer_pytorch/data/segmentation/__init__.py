"""Images with a label map each: folders, ADE20K, their transforms."""
