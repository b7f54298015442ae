"""Progress: how far each stage is, as bars in the terminal.

In: calls of `on_progress(done, total, note)`. Out: bars that are drawn at once.

    with Bars() as bars:
        run = Run(store, executor, watch=bars.watch)
"""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tasks.contract import OnProgress


class Bars:
    """The bars of a run, one for each stage."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def watch(self, name: str) -> OnProgress:
        """What a stage calls."""
        bar: TaskID | None = None

        def update(done: int, total: int, note: str) -> None:
            nonlocal bar
            if bar is None:
                bar = self._bars.add_task(name, total=total or 1, note=note)
            shown = done if total else 1
            self._bars.update(bar, completed=shown, total=total or 1, note=note)

        return update
