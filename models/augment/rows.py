"""Rows: a change of some images of a batch.

In: a batch, which of its images are to change, and what is drawn for each of them. The choice is
known on the CPU, so no work waits for the device.

    change_rows_(images_BCHW, torch.rand(batch) < 0.2, tones.solarize, thresholds_B)
"""

from collections.abc import Callable

from torch import Tensor


def change_rows_(
    images_BCHW: Tensor,
    chosen_B: Tensor,
    change: Callable[..., Tensor],
    *parameters_B: Tensor,
) -> None:
    """Replace the chosen images by `change(images_RCHW, *parameters_R111)`, in place.

    `chosen_B` (bool) and the parameters are on the CPU.
    """
    rows_R = chosen_B.nonzero().flatten()
    if not len(rows_R):
        return
    device = images_BCHW.device
    parameters_R111 = [values_B[rows_R].to(device).view(-1, 1, 1, 1) for values_B in parameters_B]
    rows_R = rows_R.to(device)
    images_BCHW.index_copy_(0, rows_R, change(images_BCHW[rows_R], *parameters_R111))
