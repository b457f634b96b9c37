"""What attention keeps and needs, for each position, in the block-wise engine."""

from edge_agent.planning.counts import FLOAT_BYTES, Case

#: Of `edge_agent.training.blockwise.attention`, which imports torch; a test holds them equal.
MOST_PAIRS = 2**20
SCORES = 2**18


def scores_kept(case: Case) -> int:
    """Return the bytes of scores that are kept where they are capped: tanh's and softmax's results.

    The latter twice in bfloat16: as it is computed, and as what multiplies the values.
    """
    cb = case.compute_bytes
    kept = cb + FLOAT_BYTES + (cb if cb < FLOAT_BYTES else 0)
    return case.sizes.rows * case.shape.heads * case.row**2 * kept


class Attention:
    """The counts of one line's attention.

    Gemma 2 caps its scores, which torch's fused kernel can't; there all scores of a batch are in
    memory: rows x heads x tokens x tokens. Elsewhere the backward pass goes over some heads at a
    time, up to a length from which on it is torch's own.

    Attributes:
        saved: numbers a position that the forward pass keeps.
        scores_saved: bytes of scores that it keeps, for the whole batch.
        backward: bytes that the backward pass needs beyond ``saved`` and ``scores_saved``.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        shape, queries, keys = case.shape, case.queries, case.keys
        self._capped = shape.model_type == "gemma2"
        self._in_parts = not self._capped and case.row**2 <= MOST_PAIRS
        # torch's kernel wants keys and values repeated, so that each query head has its own.
        self._repeated = queries if shape.kv_heads < shape.heads else keys
        self.saved = 2 * queries + 2 * (keys if self._in_parts else self._repeated)
        if shape.model_type == "qwen3":
            self.saved += queries + keys  # the inputs of their norms
        self.scores_saved = scores_kept(case) if self._capped else 0
        self.backward = self._parts() if self._in_parts else self._whole()

    def forward(self, rows: int) -> int:
        """Return the bytes of a forward pass that keeps nothing."""
        case, cb = self._case, self._case.compute_bytes
        positions = rows * case.row
        wide = case.queries * FLOAT_BYTES if cb < FLOAT_BYTES else 0  # what is gathered
        repeated = 2 * self._repeated if self._in_parts and self._repeated != case.keys else 0
        needed = positions * ((self.saved + repeated + case.queries) * cb + wide)
        if self._capped:
            scores = rows * case.shape.heads * case.row**2
            needed += scores * (3 * cb + FLOAT_BYTES)
        return needed

    def _parts(self) -> int:
        """Return the gradients, and what some heads' scores take, all in float32."""
        case, shape = self._case, self._case.shape
        gradients = case.positions * (2 * case.queries + 2 * case.keys) * case.compute_bytes
        heads = max(1, min(shape.heads // shape.kv_heads, SCORES // case.row**2))
        rows = min(case.sizes.rows, max(1, SCORES // (heads * case.row**2)))
        scores = 2 * rows * heads * case.row**2
        # Query, result, both gradients of some heads; key, value and their gradients.
        ends = rows * case.row * shape.head_dim * (4 * heads + 4)
        return gradients + (scores + ends) * FLOAT_BYTES

    def _whole(self) -> int:
        """Return the gradients; the fused kernel sums those of its inputs in float32."""
        case, cb = self._case, self._case.compute_bytes
        wide = 3 * case.queries * (FLOAT_BYTES if cb < FLOAT_BYTES else 0)
        needed = case.positions * (4 * case.queries * cb + wide) + self.scores_saved
        if self._capped:
            # Of the probabilities in both types, and of the scores in float32.
            scores = case.sizes.rows * case.shape.heads * case.row**2
            needed += scores * (cb + 2 * FLOAT_BYTES)
        return needed
