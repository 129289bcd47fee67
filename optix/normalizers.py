"""Normalisers for code outside JAX."""
