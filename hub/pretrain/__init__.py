"""Bases from scratch: a tokenizer from public text, and weights that were never trained."""
