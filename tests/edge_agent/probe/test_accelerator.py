"""GPUs are found without CUDA: by nvidia-smi, by the driver's files, by a Jetson's device tree."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.accelerator import accelerator

Tree = Callable[[dict[str, str]], Path]
MIB = 1024 * 1024


def smi(*lines: str, code: int = 0) -> dict[str, str]:
    body = "\n".join(f"echo '{line}'" for line in lines)
    return {"bin/nvidia-smi": f"#!/bin/sh\n{body}\nexit {code}\n"}


def test_a_card_is_asked_for_through_nvidia_smi(device: Callable[[str], Path]) -> None:
    found = accelerator(device("pc"))
    assert found.cuda is True
    assert found.driver == "550.107.02"
    assert found.gpus is not None
    [gpu] = found.gpus
    assert (gpu.name, gpu.integrated, gpu.compute_capability) == (
        "NVIDIA GeForce RTX 3060", False, "8.6",
    )  # fmt: skip
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (12288 * MIB, 11054 * MIB)


def test_a_jetsons_gpu_has_no_memory_of_its_own(device: Callable[[str], Path]) -> None:
    found = accelerator(device("jetson_orin"))
    assert (found.cuda, found.l4t, found.driver) == (True, "36.3.0", "540.3.0")
    assert found.gpus is not None
    [gpu] = found.gpus
    assert gpu.name == "GPU of NVIDIA Jetson Orin Nano Developer Kit"
    assert (gpu.integrated, gpu.compute_capability) == (True, "8.7")
    assert (gpu.memory_total_bytes, gpu.memory_free_bytes) == (None, None)
    assert "shares the system's memory" in gpu.missing["memory_total_bytes"]


def test_a_jetsons_own_nvidia_smi_tells_no_memory(
    device: Callable[[str], Path], tree: Tree
) -> None:
    device("jetson_orin")
    found = accelerator(tree(smi("Orin (nvgpu), [N/A], [N/A], [N/A], 540.3.0")))
    assert found.gpus is not None
    [gpu] = found.gpus
    assert (gpu.name, gpu.integrated, gpu.memory_total_bytes) == ("Orin (nvgpu)", True, None)
    assert gpu.compute_capability == "8.7"


def test_a_jetsons_container_without_the_device_nodes_has_no_cuda(
    device: Callable[[str], Path],
) -> None:
    root = device("jetson_orin")
    (root / "dev/nvgpu/igpu0/ctrl").unlink()
    (root / "dev/nvgpu/igpu0").rmdir()
    (root / "dev/nvgpu").rmdir()
    assert accelerator(root).cuda is False


def test_a_chip_whose_memory_nvidia_smi_does_not_know_shares_it(tree: Tree) -> None:
    found = accelerator(tree(smi("NVIDIA GB10, [N/A], [N/A], 12.1, 580.95.05")))
    assert found.gpus is not None
    assert (found.gpus[0].integrated, found.gpus[0].memory_total_bytes) == (True, None)


def test_without_nvidia_smi_the_drivers_files_tell_the_name(tree: Tree) -> None:
    root = tree(
        {
            "dev/nvidia0": "",
            "dev/nvidiactl": "",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA A2\n"
            "IRQ:   \t\t 155\nGPU UUID: \t GPU-xx\n",
        }
    )
    found = accelerator(root)
    assert found.cuda is True
    assert found.gpus is not None
    [gpu] = found.gpus
    assert (gpu.name, gpu.memory_total_bytes, gpu.integrated) == ("NVIDIA A2", None, None)
    assert "nvidia-smi" in gpu.missing["memory_total_bytes"]


@pytest.mark.parametrize(
    "files",
    [smi("NVIDIA-SMI has failed because it couldn't communicate with the driver.", code=9), smi()],
)
def test_an_nvidia_smi_that_fails_is_no_card(tree: Tree, files: dict[str, str]) -> None:
    found = accelerator(tree({**files, "dev/null": ""}))
    assert (found.cuda, found.gpus) == (False, [])


def test_a_device_without_a_card_says_no(device: Callable[[str], Path]) -> None:
    found = accelerator(device("raspberry_pi"))
    assert (found.cuda, found.gpus, found.l4t) == (False, [], None)


def test_where_the_devices_are_hidden_it_is_unknown(device: Callable[[str], Path]) -> None:
    found = accelerator(device("phone_termux"))
    assert (found.cuda, found.gpus) == (None, None)
    assert found.missing["cuda"] == "/dev is not there"
