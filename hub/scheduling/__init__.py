"""Who takes part in a round, with which work, in which codec, and by when: pure."""
