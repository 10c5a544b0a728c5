"""What others computed, and what others can use: one format a file."""
