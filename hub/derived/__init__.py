"""What the hub makes of a base for devices without torch: once, in a process of its own."""
