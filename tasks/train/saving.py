"""Saving: checkpoints in the background, so that no step waits for the store.

In: states of a training. Out: checkpoints, one at a time. A state is copied in the thread of the
training; encoding and writing it happen in another one. A store that fails is a warning, and the
next checkpoint is tried at its time.

    saving = Saving(store, attempt=3, keep=2)
    if not saving.is_busy:
        saving.start(state)
    saving.finish(state)      # the last one: wait for it
"""

import functools

from infra.background import Background
from infra.store import Store
from tasks.train.checkpoint import State, is_finite, save_state, snapshot


class Saving:
    """Writes the checkpoints of one attempt; `saved_step` is the step of the newest one."""

    def __init__(self, store: Store, attempt: int, keep: int, resumed_step: int = 0) -> None:
        self.saved_step = resumed_step
        self._store, self._attempt, self._keep = store, attempt, keep
        self._writing = Background(f"no checkpoint was written to {store.uri}")

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing.is_busy

    @property
    def error(self) -> str:
        """Why the last checkpoint could not be written; empty when it was."""
        return self._writing.error

    def start(self, state: State) -> bool:
        """Copy the state and write it in the background; not while another one is being written.

        False when a number in it is not finite: no training can be resumed from it.
        """
        copy = snapshot(state)
        if not is_finite(copy):
            return False
        self._writing.start(functools.partial(self._write, copy))
        return True

    def finish(self, state: State) -> bool:
        """Write the last checkpoint, after the one that is being written. True when it is there."""
        self.wait()
        if self.saved_step < state.step and not self.start(state):
            return False
        self.wait()
        return self.saved_step == state.step

    def wait(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._writing.wait()

    def _write(self, state: State) -> None:
        save_state(self._store, state, self._attempt, self._keep)
        self.saved_step = state.step
