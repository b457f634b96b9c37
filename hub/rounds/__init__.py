"""Rounds: a pure state machine over logged events, and the coordinator that drives it."""
