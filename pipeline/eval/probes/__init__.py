"""Classifiers on frozen representations, fitted here or on Ray."""
