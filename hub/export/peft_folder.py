"""The global adapter as PEFT folders, written without PEFT or torch.

The soft prompt stands in a folder of its own, since PEFT keeps one kind in one folder.
"""

from pathlib import Path

from hub.aggregation.contract import GlobalAdapter
from wire.peft_folder import write_lora, write_prompt
from wire.tensors import PackedFile

#: Name of the soft prompt's folder inside the adapter's.
PROMPT_FOLDER = "prompt"


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
            write_lora(folder, {name: packed.get(name) for name in packed.names()}, base)
    if adapter.prompt is not None:
        with PackedFile.open(adapter.prompt, manifest.expected_prompt()) as packed:
            write_prompt(folder / PROMPT_FOLDER, packed.get("prompt"), base)
