"""What a model's files say about its tokenizer, before it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in text as it stands, before anything else happens to the text.

    Attributes:
        content: as it stands in the text.
        special: whether it steers the model, and is no text.
        lstrip, rstrip: whether it takes the white space on that side along.
        single_word: whether it is found between word boundaries only.
        normalized: whether it is looked for after the text was normalised; None for the library's
            rule, that special ones are not.
    """

    content: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool | None = None


@dataclass(frozen=True)
class Description:
    """A tokenizer's parts.

    Attributes:
        document: reads what ``tokenizer.json`` holds, the vocabulary among it.
        names: special tokens by role, such as ``eos_token``; a chat template sees them.
        added: tokens that are added where the document lacks them, in this order.
        template: the chat template.
        splits_special: whether special tokens in a text are taken for text.
        adds_bos: whether the begin-of-text token stands in front of a text; None where the
            document tells.
        bos_id, eos_id: of the model, for roles that have no name.
    """

    document: Callable[[], bytes]
    names: Mapping[str, str]
    added: tuple[AddedToken, ...] = ()
    template: str | None = None
    splits_special: bool = False
    adds_bos: bool | None = None
    bos_id: int | None = None
    eos_id: int | None = None
