"""Decoder: threads and processes give the same pixels, and a process that dies costs no image."""

import functools
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from infra.store import Store, open_store
from tasks import contract
from tasks.contract import Output
from tasks.duplicates.prepare import prepare_image
from tasks.images import Inputs, Pixels, Unusable, encode_png
from tasks.images.apart import PROCESS, end_processes, prepare_apart
from tasks.inference.decoder import Decoder
from tasks.score import ScoreOptions, score
from tasks.score.options import ScoreSpeed
from tasks.shard import ShardOptions, shard
from tests.builders.models import model
from tests.builders.pictures import write_folder

SIZE = 4


def grey(data: bytes) -> tuple[Pixels, int]:
    """A picture of the level of the first byte; others are damaged, kill the process, or fail."""
    if data == b"damaged":
        raise Unusable("damaged", "it says so")
    if data == b"deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"chatty":
        print("a library says something")
    if data == b"wrong":
        raise ZeroDivisionError("a fault of ours")
    return np.full((SIZE, SIZE, 3), data[0], np.uint8), len(data)


def decoding_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if PROCESS in child.cmdline()]


@pytest.mark.parametrize("in_processes", [False, True], ids=["threads", "processes"])
def test_pixels_go_to_their_places_and_the_rest_to_the_items(in_processes: bool) -> None:
    taken: dict[int, int] = {}
    decoder: Decoder[tuple[int, bytes]] = Decoder(
        grey,
        lambda item: item[1],
        lambda item, length: taken.__setitem__(item[0], length),
        in_processes,
    )
    items = [(1, b"abc"), (2, b"damaged"), (3, bytes(200_000)), (4, b"z")]
    places_NSSC = np.full((4, SIZE, SIZE, 3), 99, np.uint8)
    seconds, problems = decoder.decode(items, places_NSSC)
    assert seconds >= 0
    assert taken == {1: 3, 3: 200_000, 4: 1}
    assert {place: problem.reason for place, problem in problems.items()} == {1: "damaged"}
    assert [int(place.min()) for place in places_NSSC] == [ord("a"), 99, 0, ord("z")]
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        decoder.decode([(1, b"a"), (2, b"wrong")], places_NSSC)
    assert decoder.decode([(5, b"b")], places_NSSC)[1] == {}, "it goes on after that"


def test_image_that_kills_the_process_is_the_only_one_lost() -> None:
    places_NSSC = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    images = [b"a", b"deadly", b"b", b"damaged"]
    _, answers = prepare_apart(pickle.dumps(grey), images, places_NSSC)
    assert [getattr(answer, "reason", answer) for answer in answers] == [1, "crashed", 1, "damaged"]
    assert str(answers[1]) == "crashed: its decoder was killed by SIGKILL"
    assert places_NSSC[:, 0, 0, 0].tolist() == [ord("a"), 0, ord("b"), 0]


def test_process_that_somebody_kills_costs_no_image() -> None:
    prepare = pickle.dumps(grey)
    prepare_apart(prepare, [b"a"], None)
    killed = decoding_processes()
    assert killed
    for process in killed:
        process.kill()
        process.wait()
    assert prepare_apart(prepare, [b"a", b"bc"], None)[1] == [1, 2]


def test_what_a_library_prints_and_ctrl_c_disturb_no_answer() -> None:
    prepare = pickle.dumps(grey)
    assert prepare_apart(prepare, [b"chatty", b"ab"], None)[1] == [6, 2]
    [first] = decoding_processes()
    first.send_signal(signal.SIGINT)
    assert prepare_apart(prepare, [b"abc"], None)[1] == [3]
    assert decoding_processes() == [first]


def test_processes_are_used_again_and_end_on_demand() -> None:
    end_processes()
    assert not decoding_processes()
    for _ in range(3):
        prepare_apart(pickle.dumps(grey), [b"a"], None)
        assert len(decoding_processes()) == 1
    end_processes()
    assert not decoding_processes()


def test_decoding_process_loads_neither_torch_nor_arrow() -> None:
    end_processes()
    prepare = functools.partial(prepare_image, inputs=Inputs(size=8, resize=8), with_luma=True)
    data = encode_png(np.zeros((9, 9, 3), np.uint8))
    assert prepare_apart(pickle.dumps(prepare), [data], None)[1][0].thumbnail == bytes(192)
    [process] = decoding_processes()
    libraries = {Path(place.path).name for place in process.memory_maps()}
    assert not [name for name in libraries if name.startswith(("libtorch", "libarrow", "libllvm"))]
    assert [name for name in libraries if name.startswith("_imaging")], "Pillow is one"


def parts(output: Output) -> list[str]:
    return [part["digest"] for part in output.body["parts"]]


def test_scores_are_the_same_byte_for_byte_in_threads_and_in_processes(
    root: Store, tmp_path: Path
) -> None:
    paths = write_folder(tmp_path / "pile", np.random.default_rng(0), per_class=15, labelled=False)
    paths[3].write_bytes(paths[3].read_bytes()[:-30])
    paths[8].write_bytes(encode_png(np.zeros((40, 90, 3), np.uint8)))
    source = ShardOptions(source=str(tmp_path / "pile"), images_per_shard=7, verify="header")
    images, teacher, found = shard(root, source), model(root), {}
    for choice in ("never", "always"):
        speed = ScoreSpeed(decode_processes=choice, decode_threads=3)
        options = ScoreOptions(batch_size=8, descriptors=True, max_reject_percent=10, speed=speed)
        other = open_store(f"{root.uri}/{choice}")
        output = score(other, images, teacher, options)
        names = contract.part_names(output)
        found[choice] = (output.kept, output.rejected, parts(output), names)
    assert found["never"] == found["always"]
    assert found["always"][:2] == (44, 1)


def test_signature_is_of_the_pixels_of_the_whole_image() -> None:
    from tasks.duplicates.matching import signature_of
    from tasks.images import Limits, decode

    rng = np.random.default_rng(0)
    data = encode_png(rng.integers(0, 256, (60, 50, 3), np.uint8))
    pixels_SSC, signature = prepare_image(data, Inputs(size=32, resize=40), with_luma=True)
    assert pixels_SSC.shape == (32, 32, 3)
    assert (signature.phash, signature.thumbnail) == signature_of(decode(data, Limits()))
    assert len(signature.luma) == 256
