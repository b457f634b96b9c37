"""Local training: data, tokens, base, adapter, loss. Only `data` may be imported without torch."""
