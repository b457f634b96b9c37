"""8-bit integers with one float32 scale for each block of 64 entries, rounded stochastically."""

from wire.blockwise import BlockwiseIntegers
from wire.codecs.contract import Codec

CODEC: Codec = BlockwiseIntegers("int8", bits=8, block=64)
