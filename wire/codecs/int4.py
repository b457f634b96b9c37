"""4-bit integers with one float32 scale for each block of 64 entries, rounded stochastically."""

from wire.blockwise import BlockwiseIntegers
from wire.codecs.contract import Codec

CODEC: Codec = BlockwiseIntegers("int4", bits=4, block=64)
