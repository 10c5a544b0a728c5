"""A bundle at work: what it says of pictures, and of features that were encoded before."""
