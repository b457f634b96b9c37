"""Looks at a device and says what would keep its agent from working: one kind of check a file."""
