"""What attention keeps and needs, for each position, in the block-wise engine."""

from edge_agent.planning.counts import FLOAT_BYTES, Case


def scores_kept(case: Case) -> int:
    """Return the bytes of scores that are kept where they are capped: tanh's and softmax's results.

    The latter twice in bfloat16: as it is computed, and as what multiplies the values.
    """
    cb = case.compute_bytes
    kept = cb + FLOAT_BYTES + (cb if cb < FLOAT_BYTES else 0)
    return case.sizes.batch * case.shape.heads * case.row**2 * kept


class Attention:
    """The counts of one line's attention.

    Gemma 2 caps its scores, which torch's fused kernel can't; there all scores of a batch are in
    memory: rows x heads x tokens x tokens.

    Attributes:
        saved: numbers a position that the forward pass keeps.
        scores_saved: bytes of scores that it keeps, for the whole batch.
        backward: bytes that the backward pass needs beyond ``saved`` and ``scores_saved``.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        shape, queries, keys = case.shape, case.queries, case.keys
        # Keys and values are repeated, so that each query head has its own.
        repeated = queries if shape.kv_heads < shape.heads else keys
        self.saved = 2 * queries + 2 * repeated
        if shape.model_type == "qwen3":
            self.saved += queries + keys  # the inputs of their norms
        self._capped = shape.model_type == "gemma2"
        cb = case.compute_bytes
        self.scores_saved = scores_kept(case) if self._capped else 0
        # Gradients of what was gathered, of queries, keys and values; the fused kernel sums the
        # latter three in float32.
        wide = 3 * queries * (FLOAT_BYTES if cb < FLOAT_BYTES else 0)
        self.backward = case.positions * (4 * queries * cb + wide) + self.scores_saved
        if self._capped:
            # Of the probabilities in both types, and of the scores in float32.
            scores = case.sizes.batch * shape.heads * case.row**2
            self.backward += scores * (cb + 2 * FLOAT_BYTES)

    def forward(self, rows: int) -> int:
        """Return the bytes of a forward pass that keeps nothing."""
        case, cb = self._case, self._case.compute_bytes
        positions = rows * case.row
        wide = case.queries * FLOAT_BYTES if cb < FLOAT_BYTES else 0  # what is gathered
        needed = positions * ((self.saved + case.queries) * cb + wide)
        if self._capped:
            scores = rows * case.shape.heads * case.row**2
            needed += scores * (3 * cb + FLOAT_BYTES)
        return needed
