"""What coordinates the fleet."""

import os

# Layers are small matrices: on one thread each takes a quarter of the processor time that it takes
# on two, which wait for one another in a loop, and a tenth where other programs have the cores
# [measured: 0.6 s for the round of a model of 1M parameters in place of 2.3]. Read by numpy's
# OpenBLAS when it is loaded; who sets it decides.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
