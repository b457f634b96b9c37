"""The demo's own parts: a small base, private texts, a live view and a report."""
