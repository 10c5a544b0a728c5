"""Frozen encoders: pictures and texts in, fp32 NumPy features out."""
