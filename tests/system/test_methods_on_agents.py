"""The documented job of each method that PEFT knows: real agents learn, the adapter loads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from hub.cli.client import HubClient
from hub.cli.unpack import unpack
from hub.yaml_text import load_mapping
from tests.system.site import LOCAL, Site, open_site

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

JOBS = Path(__file__).parents[2] / "docs" / "jobs"
SMALL: dict[str, Any] = {"local": LOCAL, "prompt": {"tokens": 4, "lr": 0.2}}
#: What PEFT finds in the exported folder, by its subfolder.
EXPORTED = {
    "lora": {"": "LORA"},
    "prompt": {"prompt": "PROMPT_TUNING"},
    "lora+prompt": {"": "LORA", "prompt": "PROMPT_TUNING"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.mark.parametrize("method", EXPORTED)
def test_the_documented_job_learns(site: Site, method: str, tmp_path: Path) -> None:
    file = load_mapping((JOBS / f"{method}.yaml").read_text(), method)
    del file["job"], file["model"]
    name = method.replace("+", "-")
    check(site, name, file | SMALL, EXPORTED[method], tmp_path / "adapter")


def test_a_prefix_in_every_layer_learns(site: Site, tmp_path: Path) -> None:
    prompt = SMALL["prompt"] | {"kind": "prefix"}
    settings = SMALL | {"method": "prompt", "prompt": prompt}
    check(site, "prefix", settings, {"prompt": "PREFIX_TUNING"}, tmp_path / "adapter")


def check(
    site: Site, name: str, settings: dict[str, Any], exported: dict[str, str], out: Path
) -> None:
    """Run a job; PEFT finds these kinds in the subfolders of what it exports."""
    detail = site.play(name, **settings)
    for device in "ab":
        assert detail.loss_after[device] < detail.loss_before[device]
    with HubClient(site.hub.url) as client:
        unpack(lambda target: client.adapter(name, target), out)
    for folder, kind in exported.items():
        model = AutoModelForCausalLM.from_pretrained(site.base)
        tuned = peft.PeftModel.from_pretrained(model, out / folder)
        assert tuned.active_peft_config.peft_type == kind
