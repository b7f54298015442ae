"""Devices: the cores of a container's quota, and the GPUs that torch can really use."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra import devices
from infra.errors import ProtegeError
from infra.settings import Settings
from tasks.train.world import join_world

QUOTA = """
import builtins, io, os
real = builtins.open
def open_quota(path, *args, **kwargs):
    if str(path) == "/proc/self/cgroup":
        return io.StringIO("0::/")
    if str(path).endswith("cpu.max"):
        return io.StringIO("150000 100000")
    if "cpu.cfs" in str(path):
        raise FileNotFoundError(path)
    return real(path, *args, **kwargs)
os.sched_getaffinity = lambda _pid: set(range(96))
import psutil
psutil.Process.cpu_affinity = lambda _self: list(range(96))
builtins.open = open_quota
from infra.devices import core_count
print(core_count())
"""


def test_cores_are_those_of_the_quota_of_the_container() -> None:
    done = subprocess.run([sys.executable, "-c", QUOTA], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_a_machine_without_a_driver_has_no_gpu_and_torch_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "GPU_DEVICES", ("/nowhere/nvidia0",))
    monkeypatch.setattr(devices, "_ask_torch", lambda _gpus: pytest.fail("torch was asked"))
    assert devices.gpu_count() == 0


def test_a_gpu_beside_a_torch_that_cannot_use_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(devices, "GPU_DEVICES", (str(tmp_path / "nvidia0"),))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpu_count() == 0
    assert devices.gpu_memory() == 0


def test_memory_is_that_of_the_machine_or_of_its_container() -> None:
    assert 1 << 28 < devices.memory_limit() < 1 << 50


def test_the_setting_decides_where_networks_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_usable_gpus", lambda: 3)
    assert devices.gpu_count() == 3
    monkeypatch.setenv("PROTEGE_DEVICE", "cpu")
    assert devices.gpu_count() == 0
    assert join_world().device.type == "cpu"
    monkeypatch.setenv("PROTEGE_DEVICE", "cuda")
    assert devices.gpu_count() == 3


def test_a_gpu_that_is_asked_for_and_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_usable_gpus", lambda: 0)
    monkeypatch.setenv("PROTEGE_DEVICE", "cuda")
    for ask in (Settings().training_processes, join_world):
        with pytest.raises(ProtegeError, match="PROTEGE_DEVICE=cuda asks for a GPU") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_two_workers_on_one_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_usable_gpus", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(devices, "worker_rank", lambda rank=rank: rank)
        assert devices.worker_gpu() == rank
    monkeypatch.setattr(devices, "worker_rank", lambda: 2)
    with pytest.raises(ProtegeError, match=r"3 workers .* on 2 GPUs: .*dask worker --nworkers 2"):
        devices.worker_gpu()


def test_more_training_processes_than_gpus_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.train.world.gpu_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ProtegeError, match="set PROTEGE_TRAINING__PROCESSES=2"):
        join_world()
