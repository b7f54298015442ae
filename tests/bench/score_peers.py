"""Score peers: Ray Data and Daft look at the same files with the same network. For bench-score.

    python tests/bench/score_peers.py FOLDER PEER BATCH_SIZE COMPILE

Run by the Python of an environment with torch, simplejpeg, Pillow, Pydantic and the peer ("ray" or
"daft"), from the root of this repository. Each is given our own functions: one actor a core, with
one thread, decodes its images, signs them and looks at them a batch at a time (every batch of one
shape), and Parquet is written. Prints the seconds, without those in which the actors started, and
the number of images as one JSON line.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

TOP_P, SIZE = 10, 224
WARM_IMAGES = 40


class Scorer:
    """What an actor does with a batch of encoded images."""

    def __init__(self, root: str, batch_size: int, compiled: bool) -> None:
        sys.path.insert(0, root)
        import torch

        from models.pixels import channels_last
        from models.registry import build
        from tasks.images import Inputs

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._batch_size = batch_size
        self._inputs = Inputs(size=SIZE, resize=SIZE * 8 // 7)
        self._network = channels_last(build("resnet18", 1000).eval())
        features = self._network.features
        self._features = torch.compile(features, dynamic=False) if compiled else features
        self.score([])

    def score(self, images: list[bytes]) -> dict[str, Any]:
        """The best classes of each image with their log-odds, and its signature."""
        import numpy as np
        import torch

        from models.losses import top_log_odds
        from models.pixels import standardise, to_unit
        from tasks.duplicates.prepare import prepare_image

        pixels_BHWC = np.zeros((self._batch_size, SIZE, SIZE, 3), np.uint8)
        signatures = []
        for place, data in enumerate(images):
            pixels_BHWC[place], signature = prepare_image(data, self._inputs, with_luma=False)
            signatures.append(signature)
        with torch.no_grad():
            images_BCHW = to_unit(torch.from_numpy(pixels_BHWC))
            images_BCHW = standardise(images_BCHW, self._inputs.mean, self._inputs.std)
            logits_BC = self._network.logits(self._features(images_BCHW).float())
        labels_BP, log_odds_BP = top_log_odds(logits_BC[: len(images)], TOP_P)
        return {
            "labels": labels_BP.numpy().tolist(),
            "log_odds": log_odds_BP.numpy().tolist(),
            "phash": [signature.phash for signature in signatures],
            "thumbnail": [signature.thumbnail for signature in signatures],
        }


def by_ray(files: str, output: Path, cores: int, given: tuple[str, int, bool]) -> float:
    import ray

    # As many again, for what reads and writes: with as many as cores, it waits for the actors.
    ray.init(num_cpus=2 * cores, include_dashboard=False, log_to_driver=False)

    class Actor(Scorer):
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            found = self.score([bytes(data) for data in batch["bytes"]])
            return {"path": batch["path"], **found}

    def run(data: Any, name: str) -> float:
        began = time.perf_counter()
        scored = data.map_batches(
            Actor,
            fn_constructor_args=given,
            batch_size=given[1],
            concurrency=cores,
            num_cpus=1,
        )
        scored.write_parquet(str(output / name))
        return time.perf_counter() - began

    folder = str(Path(files).parent)
    data = ray.data.read_binary_files(folder, include_paths=True)
    start = run(data.limit(WARM_IMAGES), "warm")
    return max(run(data, "scores") - start, 0.0)


def by_daft(files: str, output: Path, cores: int, given: tuple[str, int, bool]) -> float:
    import daft
    from daft import DataType, Series, col

    kind = DataType.struct(
        {
            "labels": DataType.list(DataType.int64()),
            "log_odds": DataType.list(DataType.float32()),
            "phash": DataType.uint64(),
            "thumbnail": DataType.binary(),
        }
    )

    @daft.cls(max_concurrency=cores, use_process=True)
    class Actor:
        def __init__(self, root: str, batch_size: int, compiled: bool) -> None:
            self._scorer = Scorer(root, batch_size, compiled)

        @daft.method.batch(return_dtype=kind, batch_size=given[1])  # type: ignore[untyped-decorator]
        def look(self, data: Series) -> list[dict[str, Any]]:
            found = self._scorer.score(data.to_pylist())
            return [dict(zip(found, row)) for row in zip(*found.values())]

    def run(data: Any, name: str) -> float:
        began = time.perf_counter()
        encoded = data.select(col("path"), col("path").download().alias("data"))
        scored = encoded.select(col("path"), Actor(*given).look(col("data")).alias("score"))
        scored.write_parquet(str(output / name))
        return time.perf_counter() - began

    listed = daft.from_glob_path(files)
    start = run(listed.limit(WARM_IMAGES), "warm")
    return max(run(listed, "scores") - start, 0.0)


def main() -> None:
    folder, peer, batch_size, compiled = sys.argv[1:]
    root = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = root
    cores = len(os.sched_getaffinity(0))
    output = Path(folder) / f"peer-{peer}"
    shutil.rmtree(output, ignore_errors=True)
    files = f"{Path(folder).absolute()}/pile/*.jpg"
    given = (root, int(batch_size), compiled == "yes")
    seconds = {"ray": by_ray, "daft": by_daft}[peer](files, output.absolute(), cores, given)
    count = len(list((Path(folder) / "pile").glob("*.jpg")))
    print(json.dumps({"peer": peer, "seconds": round(seconds, 1), "images": count}))


if __name__ == "__main__":
    main()
