"""A model as the device serves it: an engine without torch, adapters that change under it."""
