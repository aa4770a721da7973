"""The frozen GAN: what it is, what it renders, and its features."""
