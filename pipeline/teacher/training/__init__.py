"""Training a teacher: StyleGAN2 with adaptive augmentation."""
