"""A small Llama that is counted by hand.

Two blocks of width H = 8, four heads of size 4 (queries Q = 16), two of them for keys and values
(K = 8), an MLP of M = 24, a vocabulary of 32. The matrices of a block, (out, in):

    q (16, 8), k (8, 8), v (8, 8), o (8, 16), gate (24, 8), up (24, 8), down (8, 24)

In them are 128 + 64 + 64 + 128 + 3 · 192 = 960 numbers; out + in adds up to
24 + 16 + 16 + 24 + 3 · 32 = 176, which is what one rank of an adapter has in a block.
"""

import msgspec

from edge_agent.planning.counts import Case, Sizes
from wire.messages import JobKnobs, ModelShape

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 32,
}
#: Embedding and head 2 · 32 · 8 = 512, blocks 2 · (960 + 2 norms of 8) = 1,952, last norm 8.
PARAMETERS = 512 + 1952 + 8
SHAPE = ModelShape(
    model_type="llama",
    hidden_size=8,
    layers=2,
    mlp_size=24,
    heads=4,
    kv_heads=2,
    head_dim=4,
    vocab_size=32,
    tied_embeddings=False,
    parameters=PARAMETERS,
    weight_bytes=2,
    stored="bf16",
)
#: A GGUF file of the same: 18 bytes for each 32 weights.
PACKED = msgspec.structs.replace(
    SHAPE, format="gguf", stored="q4_0", weight_bytes=1, stored_bytes=PARAMETERS * 18 // 32
)
KNOBS = JobKnobs(
    method="lora+prompt",
    rank=4,
    min_rank=1,
    batch=8,
    min_batch=1,
    seq_len=64,
    min_seq_len=1,
    prompt_tokens=1,
)


def case(*, shape=SHAPE, rank=2, batch=3, seq_len=5, compute_bytes=2, local=False, **knobs):
    """Return a line; ``knobs`` are the job's."""
    return Case(
        shape,
        msgspec.structs.replace(KNOBS, **knobs),
        Sizes(rank, batch, seq_len, knobs.get("accumulate", 1)),
        compute_bytes,
        local,
    )
