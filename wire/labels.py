"""The label of a position on which no loss is taken."""

#: As PyTorch's cross entropy has it.
IGNORED = -100
