"""What a model needs and what a device can do with it: parts of other messages."""

from typing import Annotated, Literal

import msgspec

Role = Literal["lora", "prompt", "full", "infer", "none"]

#: A size that JSON's other readers hold exactly (RFC 8259, section 6).
SizeBytes = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Word = Annotated[str, msgspec.Meta(max_length=63)]
Sentence = Annotated[str, msgspec.Meta(max_length=1000)]


class ModelShape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers of a decoder-only model from which its memory follows (its ``config.json``)."""

    model_type: str
    hidden_size: int
    layers: int
    mlp_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    parameters: int
    weight_bytes: int  # of one stored parameter: 2 for bf16, 4 for fp32; rounded up where packed
    format: Word = "safetensors"  # of the file: safetensors or gguf
    stored: Word = ""  # how most parameters stand there: bf16, f16, f32, q4_0, ...; "": not told
    stored_bytes: SizeBytes = 0  # of all tensors there; 0: not told


class JobKnobs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device may shrink before it leaves a rung, and how far."""

    method: str
    rank: int
    min_rank: int
    batch: int
    min_batch: int
    seq_len: int
    min_seq_len: int
    prompt_tokens: int = 0
    prefix: bool = False  # whether these stand in every layer, as keys and values
    cores: bool = False  # whether cores may be trained: who combines the updates must know them
    optimizer: Word = "adamw"
    momentum: float = 0.0
    accumulate: Annotated[int, msgspec.Meta(ge=1)] = 1
    adversarial: bool = False
    #: Numbers that the strategy makes a device keep for each one that is trained.
    kept: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    trains: Word = "both"  # which LoRA factors in a round: both, a, b, or either (a or b)
    forward: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # side of cores without backprop; 0: off
    forward_batch: Annotated[int, msgspec.Meta(ge=0)] = 0  # sequences of a loss there


class RungPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a device's ladder for one job.

    ``predicted_peak_bytes`` is for the whole agent: supervisor and worker, every import included.
    """

    role: Role
    rung: Word
    rank: Count
    batch: Count
    seq_len: Count
    predicted_peak_bytes: SizeBytes
    fits: bool
    missing_bytes: SizeBytes = 0
    reason: Sentence = ""
    step_s: float | None = None  # predicted; None where the device's speed was not measured
    bytes_up: SizeBytes = 0  # of an update, predicted
    bytes_down: SizeBytes = 0  # of the adapter that a round begins with, predicted
