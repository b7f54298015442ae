"""Release: a worker gives back the memory of its networks, which a training is about to need.

executor.everywhere(release_models)
"""

import gc
import sys


def release_models() -> None:
    """Forget all models of this process; a GPU gets back what they have taken of its memory."""
    # Whoever has not loaded it holds none.
    if "tasks.inference.model" not in sys.modules:
        return
    import torch

    from tasks.inference.fastest import fastest
    from tasks.inference.model import load_model

    load_model.cache_clear()
    fastest.cache_clear()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
