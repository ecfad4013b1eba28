"""The pytest plugin: ``parity.compare("…", "…").assert_agreement()`` in anybody's tests.

Registered as an entry point. Everything but pytest is imported when a test first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from framework_parity.common.commands.chosen import Chosen
    from framework_parity.common.commands.shared_comparisons import Comparison, Shared
    from framework_parity.common.execution.worker_pool import WorkerPool
    from framework_parity.common.training.model_file import OwnModel

DEFAULT_DATA = "digits"
"""Small, and there without a network."""

OPTIONS = {
    "baseline": "golden records to compare with; what moved beyond rounding fails",
    "threshold": "how many rounding envelopes still count as rounding; 4",
    "accept": "TOML file of known differences that do not fail before their date",
    "data": f"data set of comparisons that name none; {DEFAULT_DATA}",
}
"""Each is ``--parity-NAME`` on the command line and ``parity_NAME`` in the ini file."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("parity", "agreement of frameworks")
    for name, what in OPTIONS.items():
        group.addoption(f"--parity-{name}", metavar=name.upper(), help=what)
        parser.addini(f"parity_{name}", what)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for ``parity_backend`` or ``parity_implementation`` for each there is."""
    if "parity_backend" in metafunc.fixturenames:
        from framework_parity.common.environments.discovery import discover

        names = [backend.name for backend in discover().values() if backend.is_framework]
        metafunc.parametrize("parity_backend", names)
    if "parity_implementation" in metafunc.fixturenames:
        from framework_parity.common.environments.backend import IMPLEMENTATIONS

        metafunc.parametrize("parity_implementation", IMPLEMENTATIONS)


@pytest.fixture(scope="session")
def parity(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parity]:
    """Compares frameworks; in a test run each is imported once, and each training done once."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):  # of pytest-xdist: its workers share the one above
        folder = folder.parent
    value = Parity(folder / "parity", {name: _option(pytestconfig, name) for name in OPTIONS})
    yield value
    value.close()


class Parity:
    """The fixture's value.

    Args:
        folder: where trainings are shared.
        options: of the test run, by the names of :data:`OPTIONS`.
    """

    def __init__(self, folder: Path, options: Mapping[str, str | None]) -> None:
        self.folder, self.options = folder, options
        self._done: dict[Any, Comparison] = {}
        self._plans: dict[Any, Shared] = {}
        self._workers: WorkerPool | None = None

    def close(self) -> None:
        """Let go of the workers, which stay until then."""
        if self._workers is not None:
            self._workers.close()

    def compare(
        self,
        *backends: str,
        implementations: Sequence[str] = (),
        threshold: float | None = None,
        baseline: str | Path | None = None,
        accept: str | Path | None = None,
        data: str | None = None,
        data_dir: str | None = None,
        **recipe: Any,
    ) -> Comparison:
        """Compare backends on one plan.

        Args:
            backends: every framework if none is named.
            implementations: ``scratch``, ``concise``; both if none is named.
            threshold: how many envelopes still count as rounding; the test run's if not given.
            baseline: a file of golden records to compare with; likewise.
            accept: a TOML file of known differences; likewise.
            data: the data set; likewise.
            data_dir: folder of the publisher's Fashion-MNIST files.
            recipe: ``batch_size``, ``lr``, ``max_epochs``, ``sigma``, ``seed``, ``dtype``.

        Raises:
            ParityError: for unusable input.
        """
        from framework_parity.common.commands.chosen import Chosen

        __tracebackhide__ = True
        files = {"baseline": baseline, "accepted": accept}
        asked = (backends, tuple(implementations))
        return self._compare(Chosen.of, asked, threshold, files, data, data_dir, recipe)

    def compare_model(
        self,
        file: str | Path,
        *backends: str,
        reference: str | None = None,
        threshold: float | None = None,
        baseline: str | Path | None = None,
        accept: str | Path | None = None,
        data: str | None = None,
        data_dir: str | None = None,
        **recipe: Any,
    ) -> Comparison:
        """Compare a model of one's own between the frameworks that its file gives it in.

        Args:
            file: see ``docs/own_model.md``; from the folder in which pytest runs.
            backends: every framework of the file if none is named.
            reference: whose float64 run is the reference; the file's NumPy model, else the first.
            threshold: as of :meth:`compare`.
            baseline: as of :meth:`compare`.
            accept: as of :meth:`compare`.
            data: as of :meth:`compare`.
            data_dir: as of :meth:`compare`.
            recipe: as of :meth:`compare`, but for ``sigma``.

        Raises:
            ParityError: for unusable input.
        """
        from framework_parity.common.commands.chosen import Chosen

        __tracebackhide__ = True
        files = {"baseline": baseline, "accepted": accept}
        asked = (backends, (), (), Path(file), reference)
        return self._compare(Chosen.of, asked, threshold, files, data, data_dir, recipe)

    def _compare(
        self,
        choose: Callable[..., Chosen],
        asked: tuple[Any, ...],
        threshold: float | None,
        files: dict[str, str | Path | None],
        data: str | None,
        data_dir: str | None,
        recipe: Mapping[str, Any],
    ) -> Comparison:
        """Compare what is asked for, unless that was done."""
        from framework_parity.common.commands.shared_comparisons import compare_shared

        __tracebackhide__ = True
        given = {"baseline": self.options["baseline"], "accepted": self.options["accept"]}
        files = {name: file or given[name] for name, file in files.items()}
        key = (asked, threshold, str(files), data, data_dir, *sorted(recipe.items()))
        if key not in self._done:
            with _reported():
                chosen = choose(*asked)
                shared = self.shared(data, data_dir, chosen.model, **recipe)
                thresholds = self._thresholds(threshold)
                self._done[key] = compare_shared(shared, chosen, thresholds, files)
        return self._done[key]

    def assert_agreement(
        self,
        run: str | Path | Mapping[str, Any],
        *,
        fail_on: str = "drift",
        threshold: float | None = None,
        data: str | None = None,
        data_dir: str | None = None,
        **recipe: Any,
    ) -> None:
        """Assert that a training of other code agrees with the reference of a recipe.

        Args:
            run: the arrays that it left, or an ``.npz`` file of them; see ``docs/record.md``.
            fail_on: ``chaotic``, ``drift`` or ``disagree``: the mildest grade that fails.
            threshold: as of :meth:`compare`.
            data: as of :meth:`compare`.
            data_dir: as of :meth:`compare`.
            recipe: as of :meth:`compare`.

        Raises:
            AssertionError: if it does not agree; says where, and why if a cause is known.
            ParityError: for unusable input.
        """
        from framework_parity.common.commands.shared_comparisons import judge_shared
        from framework_parity.common.judging.grades import failing

        __tracebackhide__ = True
        with _reported():
            failed = failing(fail_on)
            shared = self.shared(data, data_dir, **recipe)
            found = judge_shared(shared, run, self._thresholds(threshold))
        if found.grade in failed:
            raise AssertionError("\n".join(found.lines()))

    def shared(
        self,
        data: str | None = None,
        data_dir: str | None = None,
        model: OwnModel | None = None,
        **recipe: Any,
    ) -> Shared:
        """The plan of a recipe, and where its trainings are; of a user's model with its targets."""
        from framework_parity.common.commands.shared_comparisons import Shared
        from framework_parity.common.execution.worker_pool import SUPPORTED, WorkerPool

        if self._workers is None and SUPPORTED:
            self._workers = WorkerPool(self.folder / "workers")
        data = data or self.options["data"] or DEFAULT_DATA
        key = (data, data_dir, model and model.path, *sorted(recipe.items()))
        if key not in self._plans:
            given = (data, data_dir, self._workers, model)
            self._plans[key] = Shared.open(self.folder, *given, **recipe)
        return self._plans[key]

    def _thresholds(self, threshold: float | None) -> Any:
        from framework_parity.common.core.errors import ParityError
        from framework_parity.common.judging.thresholds import Thresholds

        given = self.options["threshold"] if threshold is None else threshold
        if given is None:
            return Thresholds()
        try:
            return Thresholds(envelopes=float(given))
        except ValueError:
            raise ParityError(
                "threshold", "a number of envelopes", repr(given), "4 is the default"
            ) from None


@contextmanager
def _reported() -> Iterator[None]:
    """Turn unusable input into a test's failure of one line."""
    from framework_parity.common.core.errors import ParityError

    __tracebackhide__ = True
    try:
        yield
    except ParityError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _option(config: pytest.Config, name: str) -> str | None:
    """An option of the command line, else of the ini file, where paths count from."""
    given: str | None = config.getoption(f"parity_{name}")
    if given is not None:
        return given
    named: str = config.getini(f"parity_{name}")
    if not named:
        return None
    return str(config.rootpath / named) if name in ("baseline", "accept") else named
