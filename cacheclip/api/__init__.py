"""The whole of stage two from Python: features in, a head or a table out, nothing left on disk."""
