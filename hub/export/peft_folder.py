"""The global adapter as PEFT folders, written without PEFT or torch.

The soft prompt stands in a folder of its own, since PEFT keeps one kind in one folder.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from hub.aggregation.contract import Array, GlobalAdapter
from wire.peft_folder import write_lora, write_prompt
from wire.tensors import PackedFile

#: Name of the soft prompt's folder inside the adapter's.
PROMPT_FOLDER = "prompt"


class _Read(Mapping[str, Array]):
    """The tensors of a packed file, each read when it is asked for."""

    def __init__(self, packed: PackedFile) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Array:
        return self._packed.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed.names())

    def __len__(self) -> int:
        return len(self._packed.names())


def export_peft(adapter: GlobalAdapter, folder: Path, base: str) -> None:
    """Write the LoRA part into ``folder`` and the soft prompt into ``folder/prompt``.

    A job without LoRA has only the latter, one without a prompt only the former.

    Args:
        adapter: the packed global adapter.
        folder: made if it isn't there; files of an older export are replaced.
        base: name or path of the base model, noted in the configuration.
    """
    manifest = adapter.manifest
    if adapter.lora is not None:
        with PackedFile.open(adapter.lora, manifest.expected_lora(manifest.rank)) as packed:
            write_lora(folder, _Read(packed), base)
    if adapter.prompt is not None:
        with PackedFile.open(adapter.prompt, manifest.expected_prompt()) as packed:
            write_prompt(folder / PROMPT_FOLDER, packed.get("prompt"), base)
