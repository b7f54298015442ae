"""fastest: a compiled network gives the same outputs but for rounding, or is not compiled."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infra.store import Store
from tasks.inference.fastest import fastest
from tasks.inference.model import Model, load_model
from tasks.inference.release import release_models
from tasks.options import CompileChoice
from tests.builders.models import model

# Of torch's own modules, when its compiler is loaded.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

BATCH = 4


@pytest.fixture
def plain(root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model of one linear layer, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fastest.cache_clear()
    # What was compiled for another test is compiled for its code, whoever asks.
    torch._dynamo.reset()
    yield load_model(model(root, "mean_colour"))
    fastest.cache_clear()


def made(plain: Model, choice: CompileChoice) -> Model:
    return fastest(plain, choice, batch_size=BATCH, precision="float32", num_images=10**9)


def test_compiled_network_answers_as_before(plain: Model) -> None:
    compiled = made(plain, "always")
    assert compiled.compiled is not None
    pixels_BHWC = torch.randint(0, 256, (BATCH, 16, 16, 3), dtype=torch.uint8)
    torch.testing.assert_close(compiled.logits(pixels_BHWC), plain.logits(pixels_BHWC))
    assert made(plain, "always") is compiled


@pytest.mark.parametrize("choice", ["never", "auto"])
def test_network_is_not_compiled_unless_it_pays(plain: Model, choice: CompileChoice) -> None:
    assert made(plain, choice) is plain, "on a CPU, auto is never"


def test_network_that_torch_cannot_compile_is_a_warning(
    plain: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compilers = {"cpp.cxx": (str(tmp_path / "no-compiler"),)}
    with torch._inductor.config.patch(compilers), caplog.at_level(logging.WARNING):
        assert made(plain, "always") is plain
    assert "the network is not compiled, because torch cannot" in caplog.text


def test_models_are_released(plain: Model) -> None:
    assert made(plain, "never") is plain
    release_models()
    assert (load_model.cache_info().currsize, fastest.cache_info().currsize) == (0, 0)
