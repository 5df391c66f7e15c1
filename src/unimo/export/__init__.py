"""Inference graphs of a model, and what runs them."""
