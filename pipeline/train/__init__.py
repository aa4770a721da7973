"""Shards -> student."""
