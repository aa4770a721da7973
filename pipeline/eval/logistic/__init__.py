"""Logistic regression for a whole grid of penalties at once, and the choice among them."""
