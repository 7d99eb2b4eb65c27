"""Turns a trained tabular model into an Understudy model package (format version 1, see model/FORMAT.md)."""

__version__ = "0.1.0"
