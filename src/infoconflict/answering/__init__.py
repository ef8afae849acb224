"""Asking a model: label scores in one pass over shared prefixes, or free generation."""
