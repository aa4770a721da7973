"""Shapes of networks as plain data, a file a family. Nothing here imports torch."""
