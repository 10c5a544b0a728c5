"""What every file that the project writes or reads goes through: published whole, locked, typed."""
