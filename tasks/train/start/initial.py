"""Initial: the network at step 0: of another training, of given weights, or random.

In: a `TrainJob`, or its options. Out: a `Network`, on the CPU.
"""

from collections.abc import Sequence

import torch

from infra.errors import ProtegeError
from models.initial import start_head
from models.network import Network
from models.registry import ONNX, PROJECTED, build
from models.state_dicts import OtherClasses
from tasks.inference.weights import load_network
from tasks.train.job import TrainJob
from tasks.train.options import TrainOptions
from tasks.train.start.new_layers import new_network, with_new_head
from tasks.train.start.projected import goes_on_from, projected_network, read_projection
from tasks.train.start.source import Source, find_source


def initial_network(job: TrainJob) -> Network:
    """The network at step 0; of a linear head, its features are final, and the head is random."""
    init = load_network(job.init)[0] if job.init else None
    torch.manual_seed(job.options.seed)
    if init is not None:
        return _continued(job, init)
    if not job.options.start.weights:
        return new_network(job.options, len(job.classes))
    return given_network(job.options, job.classes, job.given_classes)


def _continued(job: TrainJob, init: Network) -> Network:
    if job.init_head == "keep":
        return init
    assert job.init is not None
    if not goes_on_from(job.options.model, job.init.options["model"]):
        return with_new_head(init, job.options, len(job.classes))
    head = read_projection(job.init.store)
    network = projected_network(init, head, len(job.classes), job.init.uri)
    start_head(network.head, job.options.init.head)
    return network


def given_network(
    options: TrainOptions, classes: Sequence[str], given_classes: Sequence[str]
) -> Network:
    """The network of given weights, for these classes; `given_classes` are those of its head.

    Raises ProtegeError for weights of another network.
    """
    source, keep_head = find_source(options.start.weights), options.start.head == "keep"
    if options.model == ONNX:
        return _onnx_network(options, source.read(), classes, given_classes)
    network = _projected_network(options, source, len(classes))
    if network is None:
        network = build(options.model, len(given_classes if keep_head else classes))
        source.load_into(network, keep_head=keep_head)
    if not keep_head:
        start_head(network.head, options.init.head)
    if not keep_head or list(given_classes) == list(classes):
        return network
    return network.with_classes([list(given_classes).index(name) for name in classes])


def _projected_network(options: TrainOptions, source: Source, num_classes: int) -> Network | None:
    """The network of weights with a projection head beside them; None for all others."""
    if not options.model.endswith(PROJECTED) or options.start.head == "keep":
        return None
    head = source.projection()
    if head is None:
        return None
    inner = build(options.model.removesuffix(PROJECTED), num_classes)
    source.load_into(inner, keep_head=False)
    return projected_network(inner, head, num_classes, source.uri)


def _onnx_network(
    options: TrainOptions, data: bytes, classes: Sequence[str], given_classes: Sequence[str]
) -> Network:
    from models.networks.onnx_network import OnnxNetwork

    network, uri = build(ONNX, 0), options.start.weights
    assert isinstance(network, OnnxNetwork)
    try:
        network.open(data, options.inputs.size)
    except ValueError as error:
        raise ProtegeError(f"weights {uri} cannot be used: {error}") from error
    if options.start.head != "keep":
        return network.with_new_head(len(classes))
    if network.num_outputs != len(given_classes):
        raise ProtegeError(
            f"weights {uri} have {network.num_outputs:,} outputs, and {len(given_classes):,} "
            "classes are named: set options.start.classes to a file with the class of each, or "
            "options.start.head to linear"
        ) from OtherClasses()
    return network.with_classes([list(given_classes).index(name) for name in classes])
