"""The kinds of device that workers compute on."""

from __future__ import annotations

import glob
import os

from framework_parity.common.core.errors import ParityError

DEVICES = ("cpu", "gpu")
DEVICE_VARIABLE = "FRAMEWORK_PARITY_DEVICE"
"""The environment variable by which a worker is told its kind of device."""
DRIVERS = ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/gpus/*", "/dev/kfd", "/dev/dxg")
"""What NVIDIA's driver shows of a GPU; AMD's; and Windows', of either kind, to WSL 2."""


def asked_device() -> str:
    """The kind of device that this process was told to compute on; ``cpu`` unless told."""
    return os.environ.get(DEVICE_VARIABLE) or DEVICES[0]


def check_device(device: str) -> None:
    """Raise ParityError unless this is a kind of device, and one that this machine may have."""
    if device not in DEVICES:
        raise ParityError("device", " or ".join(DEVICES), repr(device), "choose among them")
    if device == "gpu" and not any(glob.glob(place) for place in DRIVERS):
        raise ParityError(
            "device",
            "a GPU",
            "a machine without one (no /dev/nvidia*, /dev/kfd, /dev/dxg)",
            "leave --device away",
        )


def no_gpu(framework: str, version: str, option: str) -> ParityError:
    """What a backend says that is to compute on a GPU and sees none.

    The version tells a build for CPUs; the option is the backend's name on the command line.
    """
    return ParityError(
        "device",
        f"a GPU that {framework} sees",
        f"{framework} {version}, which sees none",
        f"name an interpreter whose build can use it: --python {option}=PATH",
    )
