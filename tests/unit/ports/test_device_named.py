"""A device is there, or the error says what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from foretick.app.check import findings
from foretick.app.recipes import devices_of
from foretick.app.settings_load import load
from foretick.app.settings_sources import Flag
from foretick.errors import DeviceFailed, UsageError
from foretick.ports.device import describe_device, find_device


def settings(**given):
    return load([Flag(name.replace("__", "."), value, "--set") for name, value in given.items()]).settings


@pytest.fixture
def two_devices(monkeypatch):
    """A torch that has two CUDA devices, as far as anybody asks."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # what the user asked for stands
    switches = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    switches.append((torch.backends.cudnn, "enabled"))
    before = [getattr(*switch) for switch in switches]
    for switch in switches:
        setattr(*switch, True)
    yield
    for switch, value in zip(switches, before, strict=True):
        setattr(*switch, value)


@pytest.mark.usefixtures("two_devices")
def test_auto_is_the_cpu_wherever_a_gpu_is_and_cuda_is_the_first():
    assert [find_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cpu", "cpu", "cuda:0", "cuda:1"]
    assert [describe_device(name) for name in ("cpu", "cuda:1")] == ["the CPU", "cuda:1, Some GPU"]
    with pytest.raises(UsageError, match=r"^device cannot be cuda:2: there are 2, counted from 0"):
        find_device("cuda:2")


@pytest.mark.usefixtures("two_devices")
def test_a_group_has_a_device_of_its_own_and_cuda_computes_in_float32():
    mixed = settings(groups='{"a*": {"device": "cuda:1"}}')
    assert devices_of(mixed) == {"a*": "cuda:1", "default": "cpu"}
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled
    assert flags == (False, False, False)


@pytest.mark.usefixtures("two_devices")
def test_a_device_that_is_there_and_takes_no_memory_has_failed_and_may_serve_later(monkeypatch):
    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", no_memory)
    with pytest.raises(DeviceFailed, match=r"^device cannot be cuda: it takes no memory \(CUDA out of memory\); see"):
        find_device("cuda")
    found = {finding.subject: finding.exit_code for finding in findings(settings(device="cuda"))}
    assert found["device"] == DeviceFailed.exit_code


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_setting_that_cannot_be_had_is_named():
    for given, name in (
        ({"device": "cuda"}, "device"),
        ({"groups": '{"a*": {"device": "cuda"}}'}, r'groups."a\*".device'),
    ):
        with pytest.raises(UsageError, match=rf"^{name} cannot be cuda: .*, or write cpu$"):
            devices_of(settings(**given))


@pytest.mark.parametrize("wrong", ["gpu", "cuda:", "cuda:-1", "cuda:01", "cuda:100", "mps", ""])
def test_what_is_no_device_is_refused_with_the_settings(wrong):
    with pytest.raises(UsageError, match=r"device cannot be .*: write auto, cpu, cuda, or cuda:1"):
        settings(device=wrong)


def test_the_cpu_is_found_without_torch():
    code = "import sys; from foretick.ports import device; print(device.find_device('auto'), 'torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "cpu False\n"
    )
