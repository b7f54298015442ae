"""Device facts: what of the machine can move a result by a rounding, for the footer of a part."""

import torch

from tasks.contract import versions


def device_facts(device: torch.device) -> dict[str, str]:
    """The kind and the name of the device, and the versions of what computes on it."""
    facts = {"device": device.type, "torch": versions()["torch"]}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = str(torch.backends.cudnn.version())
    return facts
