"""A line now and then on how a run goes."""

from collections.abc import Callable

from ltx_infer.progress import duration
from ltx_train.trainer import StepMetrics

MOST_LINES = 100  # of a run
FEWEST_STEPS = 10  # between two lines: the loss of one step says more of its noise level


def between_lines(steps: int) -> int:
    """How many steps of a run of ``steps`` lie between two lines, and two pages of its report."""
    return max(FEWEST_STEPS, steps // MOST_LINES)


class Progress:
    """Collects the losses of steps, and says their mean, the pace and what is left."""

    def __init__(self, say: Callable[[str], None], *, steps: int, every_step: bool):
        self._say, self._steps = say, steps
        self._every = 1 if every_step else between_lines(steps)
        self._losses: list[float] = []
        self._seconds: list[float] = []

    def add(self, metrics: StepMetrics, *, memory_peak: int) -> None:
        """Take up a step; ``memory_peak`` is in bytes."""
        self._seconds.append(metrics.seconds)
        if metrics.skipped_in_a_row:
            self._say(
                f"step {metrics.step}/{self._steps}: skipped, as its loss or gradient is not "
                f"finite ({metrics.skipped_in_a_row} in a row)"
            )
        else:
            self._losses.append(metrics.loss)
        is_last = metrics.step == self._steps
        if not self._losses or (len(self._seconds) < self._every and not is_last):
            return
        mean = sum(self._losses) / len(self._losses)
        pace = sum(self._seconds) / len(self._seconds)
        left = duration((self._steps - metrics.step) * pace)
        of = f"mean of {len(self._losses)} steps, " if len(self._losses) > 1 else ""
        self._say(
            f"step {metrics.step}/{self._steps}: loss {mean:.4f} ({of}rate "
            f"{metrics.learning_rate:.2e}), {pace:.2f} s a step, {left} left, "
            f"peak {memory_peak / 1e9:.2f} GB"
        )
        self._losses, self._seconds = [], []
