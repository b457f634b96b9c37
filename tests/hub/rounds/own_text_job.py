"""A job on a tiny base whose hub has text of its own, and a real worker for it."""

from pathlib import Path
from typing import Any

import numpy as np

from hub.aggregation.contract import Strategy, Trained
from hub.aggregation.rules import orders, product_rule
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.strategies import configured
from hub.hash_cache import HashCache
from hub.jobs import parse_job
from hub.models import load_model
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import trains_of
from hub.rounds.combining import combine_round
from hub.rounds.events import Combined
from hub.rounds.job_run import start_manifest
from hub.rounds.own_round import OwnRound, OwnWork
from hub.rounds.state import Update
from tests.system.agent_base import write_data, write_trainable_base
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.messages import LocalWork, TrainMetrics
from wire.tensors import pack, reading
from wire.trained_factors import update_shapes

METRICS = TrainMetrics(steps=1, tokens=1, loss_first=1.0, loss_last=1.0, seconds_per_step=1.0)
#: On which the hub trains, by its role.
RUNGS = {"lora": "streamed", "prompt": "prompt", "full": "resident"}
RANK, STEPS, BATCH, SEQ_LEN = 2, 6, 4, 32


class OwnTextJob:
    """Combines one round after the other; every codec is exact.

    Args:
        folder: for everything.
        rule: of the job.
        role: what the hub trains.
    """

    def __init__(self, folder: Path, rule: str = "stack_svd", role: str = "lora") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.rule, self.role = folder, rule, role
        self.base = folder / "base"
        if not self.base.exists():
            write_trainable_base(self.base)
        self.public = write_data(folder / "public.jsonl", marker="open")
        self.validation = write_data(folder / "validation.jsonl", marker="open", seed=1)
        self.store = BlobStore(folder / "blobs")
        self.adapters = Adapters(self.store)
        method = "lora+prompt" if role == "lora" else role
        file = parse_job(
            f"job: j\nmodel: {{base: {self.base}}}\nmethod: {method}\n"
            f"lora: {{rank: {RANK}, min_rank: {RANK}}}\nprompt: {{tokens: 3}}\n"
        )
        manifest = start_manifest(file, load_model(str(self.base), HashCache(folder / "hashes")))
        ordered = orders(product_rule(rule))
        self.start = self.adapters.begin(manifest, 7, "raw", ordered=ordered)

    def local(self, round_: int) -> LocalWork:
        """Return how the hub trains."""
        return LocalWork(
            steps=STEPS, batch=BATCH, seq_len=SEQ_LEN, optimizer="adamw", lr=0.02, seed=3,
            trains=trains_of(product_rule(self.rule), "streamed", round_),
        )  # fmt: skip

    def own(self, round_: int = 1, **changes: Any) -> OwnRound:
        """Return the hub's work of a round."""
        settings: dict[str, Any] = {
            "job": "j", "base_folder": self.base, "public": str(self.public),
            "validation": str(self.validation), "variants": ("adapter", "base"),
            "role": self.role, "rung": RUNGS[self.role],
            "local": self.local(round_), "max_s": 120.0, "log_file": self.folder / "worker.log",
        }  # fmt: skip
        return OwnRound(OwnWork(**{**settings, **changes}), self.adapters)

    def update(self, device: str, sha256: str, round_: int, start: str, role: str) -> Update:
        """Return an update whose blob is in the store."""
        return Update(
            device=device, round=round_, start=start, sha256=sha256, size_bytes=1,
            role=role, rank=RANK if role == "lora" else 0,  # type: ignore[arg-type]
            tokens=100, train=METRICS, download_s=0.0, upload_s=0.0, peak_bytes=0,
        )  # fmt: skip

    def drawn(self, device: str, round_: int = 1, role: str = "lora") -> Update:
        """Return a device's update of small random differences."""
        manifest = self.adapters.manifest(self.start)
        trains = trains_of(product_rule(self.rule), "streamed", round_)
        shapes = (
            update_shapes(manifest.expected_lora(RANK), trains)
            if role == "lora"
            else manifest.expected_prompt() | manifest.expected_full()
        )
        rng = np.random.default_rng(len(device))
        tensors = {
            name: (rng.standard_normal(shape) * 0.01).astype(np.float32)
            for name, shape in shapes.items()
        }
        sha256 = self.store.put(pack(tensors, by_name("raw"), 0))
        return self.update(device, sha256, round_, self.start, role)

    def combine(
        self,
        *updates: Update,
        own: OwnRound | None = None,
        round_: int = 1,
        start: str = "",
        strategy: Strategy | None = None,
        codec: str = "raw",
    ) -> Combined:
        """Combine a round onto an adapter, by default the job's first."""
        return combine_round(
            self.store,
            self.adapters,
            Combine(round=round_, start=start or self.start, updates=updates),
            rule=self.rule,
            strategy=strategy or configured("fedavg", {}),
            trained=lambda one, at: Trained(one.device, one.tokens, one.staleness(at)),
            codec=codec,
            own=own,
        )

    def tensors(self, sha256: str) -> dict[str, np.ndarray]:
        """Return a version's products by layer, its prompt, and how far weights have moved."""
        adapter = self.adapters.load(sha256)
        found: dict[str, np.ndarray] = {}
        if adapter.lora:
            with SlicedFactors(adapter.manifest, adapter.lora) as opened:
                for target in adapter.manifest.shapes:
                    layer = opened.factors(target)
                    found[target] = layer.b @ layer.a
        for path, shapes in (
            (adapter.prompt, adapter.manifest.expected_prompt()),
            (adapter.full, adapter.manifest.expected_full()),
        ):
            with reading(path, shapes) as tensor_of:
                found |= {name: tensor_of(name) for name in shapes}
        return found
