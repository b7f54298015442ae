"""New layers: a network, or a head, that begins as the options say.

    network = new_network(options, num_classes=10)
    network = with_new_head(init, options, num_classes=10)
    sync_norms(module, options)

Weights come from torch's global generator. All raise ProtegeError for a network that cannot begin
as the options say.
"""

from torch import nn

from infra.errors import ProtegeError
from models.initial import start_head, zero_last_norms
from models.network import Network
from models.registry import build
from models.sync_batch_norm import sync_batch_norms
from tasks.train.options import TrainOptions


def new_network(options: TrainOptions, num_classes: int) -> Network:
    """The network of the options with random weights."""
    network = build(options.model, num_classes)
    start_head(network.head, options.init.head)
    if options.init.zero_last_norm:
        try:
            zero_last_norms(network)
        except ValueError as error:
            raise _unfit("init.zero_last_norm", options, error) from error
    return network


def with_new_head(init: Network, options: TrainOptions, num_classes: int) -> Network:
    """The same features with a random head for other classes."""
    network = init.with_new_head(num_classes)
    start_head(network.head, options.init.head)
    return network


def sync_norms(module: nn.Module, options: TrainOptions) -> None:
    """Let batch norms see the whole batch, where the options ask for it."""
    if options.sync_batch_norm:
        try:
            sync_batch_norms(module)
        except ValueError as error:
            raise _unfit("sync_batch_norm", options, error) from error


def _unfit(option: str, options: TrainOptions, error: ValueError) -> ProtegeError:
    return ProtegeError(f"options.{option} does not fit {options.model}: {error}")
