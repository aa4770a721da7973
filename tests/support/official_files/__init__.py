"""Writes random StyleGAN2-ADA checkpoints in the two official layouts, PyTorch and TensorFlow.

The layouts copy the golden files: the persistence wrappers, attributes and constructor arguments
of the one, the nested networks, `static_kwargs` and variables of the other. Every tensor is random
and acts: noise strengths and biases are not zero, `G` is not `G_ema`.
"""
