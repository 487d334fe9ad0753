"""Cancel a scenario at every step it takes, one run for each, and see what is left behind.

A "step" is one turn of one task. `sweep` cancels the whole scenario, as a shutdown does; `sweep_within` only the part
that the scenario puts under `with cut:`, as when one client goes away, and the scenario then looks round itself.

    def test_nothing_is_left_of_a_listener() -> None:
        async def scenario() -> None: ...
        sweep(scenario, check=lambda: assert_empty(registry))

`refusals` are errors that the part may rightly meet once it is being cancelled: a call to what has closed already.
Tasks that are ready together run in an order that `seed` decides. Scenarios run in virtual time; give real pieces the
real one with `clock=lambda: None`. How many steps they take then differs a little from run to run: with `runs_beyond=3`
the sweep ends when three runs in a row came to their end before the cut.
An error of the scenario or the check, or a task that is left, fails the sweep and names the step and where it was.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from types import TracebackType
from typing import Any

import trio
from trio._core import _run
from trio.testing import MockClock


class Cut:
    """The part that is cancelled. Steps are counted while it is entered; it fires once."""

    def __init__(self, step: int, refusals: tuple[type[Exception], ...] = ()) -> None:
        self.scope = trio.CancelScope()
        self._entered = False
        self.where = "not reached"
        self._left = step
        self._refusals = refusals
        self._inside = ExitStack()

    @property
    def fired(self) -> bool:
        return self.scope.cancel_called

    def __enter__(self) -> Cut:
        self._inside.enter_context(self._part())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._inside.__exit__(kind, error, traceback)

    @contextmanager
    def _part(self) -> Iterator[None]:
        self._entered = True
        try:
            with self.scope:
                yield
        except* self._refusals:
            if not self.fired:
                raise
        finally:
            self._entered = False

    def count(self, task: trio.lowlevel.Task) -> None:
        """`task` is about to run one step."""
        if not self._entered or self.fired:
            return
        self._left -= 1
        if self._left == 0:
            self.where = _where(task)
            self.scope.cancel("sweep")


class _Watch(trio.abc.Instrument):
    """Counts the steps of the scenario's tasks for the cut, and knows which tasks are alive."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._trios_own: set[trio.lowlevel.Task] = set()
        self._alive: set[trio.lowlevel.Task] = set()

    def begin(self) -> None:
        """Called by the scenario's first task: what is alive besides it is Trio's own."""
        self._trios_own = self._alive - {trio.lowlevel.current_task()}

    def left(self) -> list[str]:
        """Called by the same task at the end: the names of the tasks that are alive besides it."""
        left = self._alive - self._trios_own - {trio.lowlevel.current_task()}
        return sorted(task.name for task in left)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._alive.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._alive.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task not in self._trios_own:
            self._cut.count(task)


@contextmanager
def _same_order_each_time(seed: int) -> Iterator[None]:
    """Trio runs the tasks that are ready in random order. Here it must be the same order in every run, or "step 17"
    would mean something else each time and the sweep could end before its last step. Trio has no public switch; this
    is the one that its Hypothesis plugin uses."""
    mutable: Any = _run
    random_before, switch_before = mutable._r, mutable._ALLOW_DETERMINISTIC_SCHEDULING
    mutable._r, mutable._ALLOW_DETERMINISTIC_SCHEDULING = random.Random(seed), True
    try:
        yield
    finally:
        mutable._r, mutable._ALLOW_DETERMINISTIC_SCHEDULING = random_before, switch_before


def sweep(
    scenario: Callable[[], Awaitable[None]],
    check: Callable[[], None],
    *,
    clock: Callable[[], trio.abc.Clock | None] = lambda: MockClock(autojump_threshold=0),
    refusals: tuple[type[Exception], ...] = (),
    seed: int = 0,
    max_steps: int = 5_000,
    runs_beyond: int = 1,
) -> int:
    """Run `scenario` once for each of its steps, cancelled whole there, and `check` after each run. Returns how many
    steps there were."""

    async def cut_whole(cut: Cut) -> None:
        with cut:
            await scenario()

    return sweep_within(
        cut_whole, check, clock=clock, refusals=refusals, seed=seed, max_steps=max_steps, runs_beyond=runs_beyond
    )


def sweep_within(
    scenario: Callable[[Cut], Awaitable[None]],
    check: Callable[[], None],
    *,
    clock: Callable[[], trio.abc.Clock | None] = lambda: MockClock(autojump_threshold=0),
    refusals: tuple[type[Exception], ...] = (),
    seed: int = 0,
    max_steps: int = 5_000,
    runs_beyond: int = 1,
) -> int:
    """The same, where the scenario itself says what is cancelled. It is run once more without a cancel at the end."""
    beyond = 0
    for step in count(1):
        assert step <= max_steps, f"the scenario has not come to its end in {max_steps} steps"
        cut = Cut(step, refusals)
        try:
            _run_once(scenario, cut, clock(), seed)
            check()
        except Exception as error:
            error.add_note(f"sweep: cancelled at step {step} (seed {seed}), at {cut.where}")
            raise
        beyond = 0 if cut.fired else beyond + 1
        if beyond == runs_beyond:
            return step - beyond
    raise AssertionError("unreachable")


def _run_once(scenario: Callable[[Cut], Awaitable[None]], cut: Cut, clock: trio.abc.Clock | None, seed: int) -> None:
    watch = _Watch(cut)

    async def main() -> None:
        watch.begin()
        await scenario(cut)
        left = watch.left()
        assert not left, f"tasks are left: {left}"

    with _same_order_each_time(seed):
        trio.run(main, clock=clock, instruments=[watch])


def _where(task: trio.lowlevel.Task) -> str:
    """The innermost frame of the task that was about to run, with its name."""
    frames = [f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})" for frame, line in task.iter_await_frames()]
    own = [frame for frame in frames if "/trio/" not in frame]
    return f"{(own or frames or ['its beginning'])[-1]} in task {task.name}"
