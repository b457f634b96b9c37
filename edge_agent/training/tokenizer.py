"""Text to token ids, and conversations to text, without transformers.

Hugging Face's ``tokenizers`` does the work; transformers, which adds little to it and weighs
120 MB, is not imported. The vocabulary's tables can be given back once the rows are made.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.training.code_pages import give_back_code
from edge_agent.training.errors import is_out_of_memory
from edge_agent.training.heap import trim_heap
from edge_agent.training.long_text import encode_long
from edge_agent.training.tokenizer_contract import Description
from edge_agent.training.tokenizer_folder import describe_folder, has_tokenizer
from edge_agent.training.tokenizer_gguf import describe_gguf


def load_tokenizer(path: Path) -> "Tokenizer":
    """Load a model's tokenizer.

    Args:
        path: a Hugging Face folder, a folder with one GGUF file, or a GGUF file. A
            ``tokenizer.json`` beside a GGUF file goes before the file's own vocabulary.

    Raises:
        ModelError: there is none, or it can't be used.
    """
    return Tokenizer(_describe(path))


def _describe(path: Path) -> Description:
    if path.is_dir():
        found = [] if has_tokenizer(path) else sorted(path.glob("*.gguf"))
        return describe_gguf(found[0]) if len(found) == 1 else describe_folder(path)
    inside = describe_gguf(path)
    if not (path.parent / "tokenizer.json").is_file():
        return inside
    beside = describe_folder(path.parent)
    return replace(
        beside,
        names={**inside.names, **beside.names},
        template=beside.template or inside.template,
        bos_id=inside.bos_id if beside.bos_id is None else beside.bos_id,
        eos_id=inside.eos_id if beside.eos_id is None else beside.eos_id,
    )


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        bos_id, eos_id: the tokens that begin and end a text, None where the model has none.
        eos_token: the latter as text.
        adds_bos: whether the model's texts begin with the former.
    """

    def __init__(self, described: Description) -> None:
        self._described = described
        self._engine: Any = None
        self._render: Callable[..., str] | None = None
        if described.template is not None:
            # Late import: Jinja weighs up to 10 MB, and many models have no template.
            from edge_agent.training.chat_template import compile_template

            self._render = compile_template(described.template, described.names)
        engine = self._loaded()
        names = described.names
        self.bos_id = self._id(names.get("bos_token"), described.bos_id)
        self.eos_id = self._id(names.get("eos_token"), described.eos_id)
        self.eos_token = None if self.eos_id is None else engine.id_to_token(self.eos_id)
        adds_bos = described.adds_bos
        if adds_bos is None:
            adds_bos = self.bos_id in engine.encode("").ids
        self.adds_bos = adds_bos and self.bos_id is not None

    def ids(self, text: str) -> list[int]:
        """Return a text's token ids; special tokens are added to none, and found where it has them.

        Loads the vocabulary again after `release`.
        """
        engine = self._loaded()

        def encode(piece: str) -> list[int]:
            found: list[int] = engine.encode(piece, add_special_tokens=False).ids
            return found

        return encode_long(encode, text)

    def text(self, ids: Sequence[int]) -> str:
        """Return what token ids say; special tokens say nothing.

        Loads the vocabulary again after `release`.
        """
        found: str = self._loaded().decode(list(ids), skip_special_tokens=True)
        return found

    def id_of(self, token: str) -> int | None:
        """Return the id of a token by its name, None where the vocabulary has none."""
        found: int | None = self._loaded().token_to_id(token)
        return found

    def chat(self, turns: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str | None:
        """Return a conversation as the model's chat template writes it, None without a template.

        Args:
            turns: ``role`` and ``content`` of each turn.
            add_generation_prompt: whether the model is to speak next.

        Raises:
            ModelError: the template fails.
        """
        return None if self._render is None else self._render(turns, add_generation_prompt)

    def release(self) -> None:
        """Give back the memory of the vocabulary, and of code; `ids` reads them again."""
        self._engine = None
        gc.collect()
        trim_heap()
        give_back_code()

    def _loaded(self) -> Any:
        if self._engine is None:
            self._engine = _build(self._described)
            trim_heap()  # the parser leaves holes of 20 MB and more
        return self._engine

    def _id(self, name: str | None, stated: int | None) -> int | None:
        """Return a token's id by its name, else the id that the model states, if it exists."""
        if name is not None:
            found: int | None = self._engine.token_to_id(name)
            return found
        exists = stated is not None and stated >= 0 and self._engine.id_to_token(stated) is not None
        return stated if exists else None


def _build(described: Description) -> Any:
    """Return a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Engine

    document = described.document()
    try:
        engine = Engine.from_buffer(document)
        present = {token.content for token in engine.get_added_tokens_decoder().values()}
        engine.add_tokens(
            [
                AddedToken(
                    token.content,
                    special=token.special,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    single_word=token.single_word,
                    **({} if token.normalized is None else {"normalized": token.normalized}),
                )
                for token in described.added
                if token.content not in present
            ]
        )
    except Exception as error:
        # The library has no class of its own for what is wrong with a file.
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"the model's tokenizer can't be built ({type(error).__name__}: {str(error)[:300]}). "
            "Fetch or export the model again."
        ) from error
    engine.no_truncation()
    engine.no_padding()
    engine.encode_special_tokens = described.splits_special
    return engine
