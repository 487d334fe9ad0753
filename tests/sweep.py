"""Cancel a scenario at every step it takes, one run for each, and see what is left behind.

A "step" is one turn of one task. `sweep` cancels the whole scenario, as a shutdown does; `sweep_within` only the part
that the scenario puts under `with cut:`, as when one client goes away, and the scenario then looks round itself.

    def test_nothing_is_left_of_a_listener() -> None:
        async def scenario() -> None: ...
        sweep(scenario, check=lambda: assert_empty(registry))

Scenarios run in virtual time (`clock=None` for real pieces whose threads or sockets need the real one). An error of the
scenario or the check, or a task that is left, fails the sweep and names the step and where the scenario was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from types import TracebackType

import trio
from trio.testing import MockClock


class Cut:
    """The part that is cancelled. Steps are counted while it is entered; it fires once."""

    def __init__(self, step: int) -> None:
        self.scope = trio.CancelScope()
        self.where = "not reached"
        self._left = step
        self._entered = False

    @property
    def fired(self) -> bool:
        return self.scope.cancel_called

    def __enter__(self) -> Cut:
        self._entered = True
        self.scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._entered = False
        return self.scope.__exit__(kind, error, traceback)

    def count(self, task: trio.lowlevel.Task) -> None:
        if not self._entered or self.fired:
            return
        self._left -= 1
        if self._left == 0:
            self.where = _where(task)
            self.scope.cancel("sweep")


class _Watch(trio.abc.Instrument):
    """Counts steps for the cut, and knows which tasks are alive."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self.alive: set[trio.lowlevel.Task] = set()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.alive.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.alive.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._cut.count(task)


def sweep(
    scenario: Callable[[], Awaitable[None]],
    check: Callable[[], None],
    *,
    clock: Callable[[], trio.abc.Clock | None] = lambda: MockClock(autojump_threshold=0),
    max_steps: int = 5_000,
) -> int:
    """Run `scenario` once for each of its steps, cancelled whole there, and `check` after each run. Returns how many
    steps there were."""

    async def cut_whole(cut: Cut) -> None:
        with cut:
            await scenario()

    return sweep_within(cut_whole, check, clock=clock, max_steps=max_steps)


def sweep_within(
    scenario: Callable[[Cut], Awaitable[None]],
    check: Callable[[], None],
    *,
    clock: Callable[[], trio.abc.Clock | None] = lambda: MockClock(autojump_threshold=0),
    max_steps: int = 5_000,
) -> int:
    """The same, where the scenario itself says what is cancelled. It is run once more without a cancel at the end."""
    for step in count(1):
        assert step <= max_steps, f"the scenario has not come to its end in {max_steps} steps"
        cut = Cut(step)
        try:
            _run_once(scenario, cut, clock())
            check()
        except Exception as error:
            error.add_note(f"sweep: cancelled at step {step}, at {cut.where}")
            raise
        if not cut.fired:
            return step - 1
    raise AssertionError("unreachable")


def _run_once(scenario: Callable[[Cut], Awaitable[None]], cut: Cut, clock: trio.abc.Clock | None) -> None:
    watch = _Watch(cut)

    async def main() -> None:
        before = set(watch.alive)
        await scenario(cut)
        left = watch.alive - before
        assert not left, f"tasks are left: {sorted(task.name for task in left)}"

    trio.run(main, clock=clock, instruments=[watch])


def _where(task: trio.lowlevel.Task) -> str:
    """The innermost frame of the task that was about to run, with its name."""
    frames = [f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})" for frame, line in task.iter_await_frames()]
    own = [frame for frame in frames if "/trio/" not in frame]
    return f"{(own or frames or ['its beginning'])[-1]} in task {task.name}"
