"""Fused kernels, one op a file: formula, reference, Triton kernels, autograd Function."""
