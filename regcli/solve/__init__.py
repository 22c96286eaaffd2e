"""Numerical work on residual fields; knows tensors, not images."""
