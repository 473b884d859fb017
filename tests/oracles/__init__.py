"""Slow, readable answers that share no code with the package."""
