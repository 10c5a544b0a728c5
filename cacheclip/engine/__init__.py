"""The engine: V variants of one method as one stack of tensors, and the only training loop."""
