"""The global adapter before the first round: it changes nothing yet, and every part can learn.

LoRA starts as in Hu et al. 2021 (arXiv 2106.09685, section 4.1): random A, B = 0. Here the rows of
A are random signs of unit length, which the entropy code carries at one bit an entry; where there
are so few entries that rows could coincide, they are orthonormal, the form that every later round
has. The soft prompt, or a prefix, is drawn at the scale at
which the Llama family initialises its embeddings; the first norm of the model removes the scale,
so that only the direction matters, and a small start is one that training turns quickly.
"""

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.basis import complete, seed_of
from hub.aggregation.contract import Array, Factors
from hub.aggregation.layers import Layers
from wire.manifest import AdapterManifest

#: Standard deviation of the first soft prompt: `initializer_range` of the Llama family.
PROMPT_STD = 0.02
#: Two rows of so many random signs lie within 30 degrees of a right angle, but once in 16,000.
FEW_INPUTS = 64


def lora_start(manifest: AdapterManifest, seed: int) -> Layers:
    """Return the first factors of every target, by tensor name.

    Args:
        manifest: gives ranks and shapes.
        seed: the job's; with the target's name it fixes each A.

    Returns:
        ``lora_A`` (R, in) with rows of unit norm, orthogonal or nearly so as long as R <= in;
        ``lora_B`` (out, R) of zeros.
    """

    shapes = manifest.expected_lora(manifest.rank)

    def fresh(target: str) -> Factors:
        rank, inputs = shapes[f"{target}.lora_A"]
        rows = _directions(rank, inputs, seed_of(seed, target))
        return Factors(rows.astype(np.float32), np.zeros(shapes[f"{target}.lora_B"], np.float32))

    return Layers(shapes, fresh)


def _directions(rank: int, width: int, seed: int) -> NDArray[np.float64]:
    if width >= max(FEW_INPUTS, 4 * rank):
        signs = np.random.default_rng(seed).integers(0, 2, (rank, width)) * 2.0 - 1.0
        rows: NDArray[np.float64] = signs / np.sqrt(width)
        return rows
    nothing = np.empty((0, width), dtype=np.float64)
    return complete(nothing, rank, nothing, seed)


def prompt_start(manifest: AdapterManifest, seed: int) -> dict[str, Array]:
    """Return the first soft prompt, or prefix, by tensor name; empty without one."""

    def fresh(name: str, shape: tuple[int, ...]) -> Array:
        drawn = np.random.default_rng(seed_of(seed, name)).standard_normal(shape)
        return (drawn * PROMPT_STD).astype(np.float32)

    return {name: fresh(name, shape) for name, shape in manifest.expected_prompt().items()}
