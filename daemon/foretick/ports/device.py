"""Devices: which there are, and how one is made to compute as the CPU does. Torch is imported for other ones only."""

from __future__ import annotations

import os

from foretick.core.device import CPU
from foretick.errors import DeviceFailed, UsageError


def find_device(name: str, setting: str = "device") -> str:
    """Torch's name of the device that a setting names, and which is there: `cpu`, `cuda:0`.

    `auto` is the CPU.

    Raises:
        UsageError: it is not here, and only a person can bring it; says what is wrong, and what to do.
        DeviceFailed: it is here and takes no memory: another program may have it all for now.
    """
    if name in ("auto", CPU):
        return CPU
    if why := _why_absent(name):
        raise UsageError(f"{setting} cannot be {name}: {why}, or write cpu")
    if why := _why_unable(name):
        raise DeviceFailed(f"{setting} cannot be {name}: {why}, or write cpu")
    return name if ":" in name else f"{name}:0"


def _why_absent(name: str) -> str:
    import torch  # noqa: PLC0415  takes seconds

    if not torch.backends.cuda.is_built():
        return f"this torch ({torch.__version__}) knows the CPU alone; install one built for CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device; see whether nvidia-smi does, and whether this process may use it"
    count = torch.cuda.device_count()
    if int(name.partition(":")[2] or 0) >= count:
        return f"there are {count}, counted from 0; write another number"
    return ""


def _why_unable(name: str) -> str:
    import torch  # noqa: PLC0415  takes seconds

    try:
        torch.zeros(1, device=name)
    except RuntimeError as error:
        return f"it takes no memory ({error}); see what else uses it"
    return ""


def describe_device(name: str) -> str:
    """What people call a device that `find_device` found."""
    if name == CPU:
        return "the CPU"
    import torch  # noqa: PLC0415  takes seconds

    return f"{name}, {torch.cuda.get_device_name(name)}"


def compute_exactly() -> None:
    """Have CUDA multiply float32 as float32, and add it up in the same order each time; before its first product.

    By default torch's LSTM multiplies in TF32, whose 10 bits of mantissa are wrong by 1e-3; and cuDNN's kernels for it
    are not the same from run to run in some versions. Without them it is made of cuBLAS' products.
    """
    import torch  # noqa: PLC0415  takes seconds

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # 8 buffers of 4 MiB, as NVIDIA asks for
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.enabled = False
