"""Text that the hub has of its own: trained on, or measured on, in a process with torch."""
