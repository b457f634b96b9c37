"""Bases and adapters as GGUF files, as llama.cpp loads them; without torch."""
