"""Images with one class each: folders, Fashion-MNIST, their transforms."""
