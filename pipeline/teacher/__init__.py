"""The frozen GAN and how to get one."""
