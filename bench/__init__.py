"""Measures what the README and the issues promise: real processes, real broker, real text."""
