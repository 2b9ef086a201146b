"""Distillation: a small network learns from a trained one on pictures without labels."""
