"""How the worker is held to its share of the memory."""
