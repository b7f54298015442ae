"""Initial weights other than those that a network is built with.

"Accurate, large minibatch SGD" (Goyal et al. 2017), section 5.1: the scale of the last norm of each
residual block starts at 0, so that every block starts as the identity, and the head from a normal
distribution of deviation 0.01. SimCLRv2 (Chen et al. 2020) fine-tunes a head that starts at 0.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from models.network import Network

# torch is imported where it is needed: options name the ways to start without it.

HEAD_DEVIATION = 0.01

HeadStart = Literal["uniform", "normal", "zero"]


def zero_last_norms(network: "Network") -> None:
    """Set the scales to 0. Raises ValueError for a network that has no such norms."""
    norms = network.last_norms()
    if not norms:
        raise ValueError(f"no residual block of a {type(network).__name__} ends with a norm")
    from torch import nn

    for norm in norms:
        nn.init.zeros_(norm.weight)


def start_head(head: "nn.Linear", start: HeadStart) -> None:
    """Draw the weights of a head from torch's global generator; `uniform` leaves torch's."""
    if start == "uniform":
        return
    from torch import nn

    deviation = HEAD_DEVIATION if start == "normal" else 0.0
    nn.init.normal_(head.weight, std=deviation)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
