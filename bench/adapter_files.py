"""Adapters as files that a worker takes: a job's first one, a published one, one trained alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from safetensors.numpy import load_file

from bench.report import BenchError
from hub.aggregation.contract import Array
from hub.aggregation.rules import orders, product_rule
from hub.demo.summary import Summary
from hub.export.peft_folder import PROMPT_FOLDER
from hub.hash_cache import HashCache
from hub.jobs import parse_job
from hub.models import load_model
from hub.rounds.adapters import Adapters
from hub.rounds.job_run import start_manifest
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.manifest import AdapterManifest, AdapterPart
from wire.tensors import PackedFile, pack

_PEFT_PREFIX = "base_model.model."


class AdapterFiles(msgspec.Struct, frozen=True):
    """A packed adapter on disk, as `edge_agent.protocol.Work` names it."""

    manifest: Path
    parts: dict[str, str]  # path by sha256


def read_manifest(adapter: AdapterFiles) -> AdapterManifest:
    """Return what the adapter is made of."""
    return AdapterManifest.decode(adapter.manifest.read_bytes())


def start_adapter(run_folder: Path, summary: Summary, folder: Path) -> AdapterFiles:
    """Make the adapter that a finished job began with.

    Args:
        run_folder: with ``job.yaml`` and ``events.jsonl``.
        summary: of the run, for its seed.
        folder: for the files.

    Raises:
        BenchError: it isn't the adapter that the job's record names.
    """
    file = parse_job((run_folder / "job.yaml").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    base = load_model(file.model.base, HashCache(folder / "hashes.json"))
    store = BlobStore(folder / "blobs")
    ordered = orders(product_rule(file.rule))
    manifest = start_manifest(file, base)
    sha256 = Adapters(store).begin(manifest, summary.seed, file.codec, ordered=ordered)
    if f'"{sha256}"' not in (run_folder / "events.jsonl").read_text():
        raise BenchError(f"{run_folder}/events.jsonl names another first adapter than {sha256}.")
    files = Adapters(store).files(sha256)
    return AdapterFiles(files.pop("manifest"), {path.name: str(path) for path in files.values()})


def tensors_of(adapter: AdapterFiles) -> dict[str, Array]:
    """Return every tensor of an adapter by its name on the wire; LoRA may have one slice alone."""
    manifest = read_manifest(adapter)
    found: dict[str, Array] = {}
    for part in manifest.parts:
        with PackedFile.open(Path(adapter.parts[part.sha256]), manifest.expected(part)) as packed:
            found |= {name: packed.get(name) for name in packed.names()}
    return found


def peft_tensors(folder: Path) -> dict[str, Array]:
    """Return the tensors of an exported adapter, its soft prompt included, by name on the wire."""
    found: dict[str, Array] = {}
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        found[name.removeprefix(_PEFT_PREFIX).removesuffix(".weight")] = tensor
    prompt = folder / PROMPT_FOLDER / "adapter_model.safetensors"
    if prompt.is_file():
        found["prompt"] = load_file(prompt)["prompt_embeddings"]
    return found


def trained_alone(start: AdapterFiles, update: Path, role: str, rank: int) -> dict[str, Array]:
    """Return the start with one device's update added to what it trained.

    Args:
        start: the adapter that it began with.
        update: packed differences.
        role: lora or prompt.
        rank: how many leading components it trained.
    """
    manifest, tensors = read_manifest(start), tensors_of(start)
    expected = manifest.expected_lora(rank) if role == "lora" else manifest.expected_prompt()
    with PackedFile.open(update, expected) as packed:
        for name in packed.names():
            whole, change = tensors[name].copy(), packed.get(name)
            lead = whole[:, :rank] if name.endswith(".lora_B") else whole[: len(change)]
            lead += change
            tensors[name] = whole
    return tensors


def write_adapter(
    tensors: Mapping[str, Array], like: AdapterManifest, folder: Path
) -> AdapterFiles:
    """Pack tensors without loss.

    Args:
        tensors: LoRA factors of the full rank and the soft prompt, by name on the wire.
        like: gives job, base and shapes.
        folder: for the files, made if it isn't there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store, parts, paths = BlobStore(folder / "blobs"), list[AdapterPart](), dict[str, str]()
    names: tuple[Literal["lora"], Literal["prompt"]] = ("lora", "prompt")
    for part in names:
        chosen = {
            key: one for key, one in tensors.items() if (key == "prompt") == (part == "prompt")
        }
        if not chosen:
            continue
        packed = pack(chosen, by_name("raw"), 0)
        sha256 = store.put(packed)
        parts.append(AdapterPart(name=part, sha256=sha256, size_bytes=len(packed), codec="raw"))
        paths[sha256] = str(store.path(sha256))
    manifest = folder / "manifest.json"
    manifest.write_bytes(msgspec.structs.replace(like, parts=parts).encode())
    return AdapterFiles(manifest, paths)
