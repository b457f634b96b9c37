"""The global adapter in formats that other tools read."""
