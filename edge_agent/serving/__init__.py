"""A device's adapter for its user: an engine with an OpenAI-compatible endpoint before it."""
