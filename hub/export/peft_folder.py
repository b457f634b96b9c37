"""The global adapter as PEFT folders, written without PEFT or torch.

The soft prompt stands in a folder of its own, since PEFT keeps one kind in one folder.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from hub.aggregation.contract import Array, GlobalAdapter
from hub.aggregation.slices import SlicedFactors
from wire.peft_folder import write_lora, write_prefix, write_prompt
from wire.tensors import PackedFile

#: Name of the soft prompt's, or prefix's, folder inside the adapter's.
PROMPT_FOLDER = "prompt"


class _Read(Mapping[str, Array]):
    """The factors of an adapter, each read when it is asked for."""

    def __init__(self, factors: SlicedFactors, names: Collection[str]) -> None:
        self._factors = factors
        self._names = names

    def __getitem__(self, name: str) -> Array:
        return self._factors.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


def export_peft(adapter: GlobalAdapter, folder: Path, base: str) -> None:
    """Write the LoRA part into ``folder`` and the soft prompt into ``folder/prompt``.

    A job without LoRA has only the latter, one without a prompt only the former.

    Args:
        adapter: the packed global adapter.
        folder: made if it isn't there; files of an older export are replaced.
        base: name or path of the base model, noted in the configuration.
    """
    manifest = adapter.manifest
    if adapter.lora:
        with SlicedFactors(manifest, adapter.lora) as factors:
            write_lora(folder, _Read(factors, manifest.expected_lora(manifest.rank)), base)
    if adapter.prompt is not None:
        with PackedFile.open(adapter.prompt, manifest.expected_prompt()) as packed:
            values = {name: packed.get(name) for name in packed.names()}
        if manifest.prefix is None:
            write_prompt(folder / PROMPT_FOLDER, values["prompt"], base)
        else:
            write_prefix(folder / PROMPT_FOLDER, values, base)
