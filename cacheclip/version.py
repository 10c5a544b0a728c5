"""The version of this release, where every room may read it without the whole package."""

__version__ = "0.1.0"
