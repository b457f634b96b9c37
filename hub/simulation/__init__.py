"""Virtual devices for experiments: which examples each one holds; pure."""
