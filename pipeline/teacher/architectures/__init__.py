"""Shapes of networks as plain data, a file a family. Nothing here imports torch.

Beside its sizes every generator's architecture says whether latents are mapped to a `w` that may be
a feature (`has_mapping`), and whether its samples can be truncated (`can_truncate`).
"""
