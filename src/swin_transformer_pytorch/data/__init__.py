"""Images in: reading, preprocessing, augmentation, image folders and the embedded Fashion-MNIST sample."""
