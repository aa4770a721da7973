"""Squeeze and span as software: real images and a GAN in, an image backbone and its evaluation
out.
"""
