"""Training with one block of the base model in memory at a time; no transformers, no PEFT."""
