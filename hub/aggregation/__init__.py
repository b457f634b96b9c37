"""How updates become the next global adapter: pure maths, streamed layer by layer from disk."""
