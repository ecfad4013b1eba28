"""What is compared: which backends, what each of them trains, and who trains the reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework_parity.common.commands.model_targets import ask
from framework_parity.common.commands.options import SaveOptions, SeedsOptions
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.environments.backend import IMPLEMENTATIONS, Backend, Environment
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.execution.processes import Contender, Subject
from framework_parity.common.training.model_file import OwnModel


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Args:
        backends: the frameworks, with their versions.
        implementations: what each of them trains; of softmax regression, if none is named, all
            that it has; of a model of a user's own the name of its file.
        model: that file; None: softmax regression.
        reference: who trains the reference of that model.
        is_named: whether the user named who does.
    """

    backends: Sequence[Backend]
    implementations: Sequence[str] = ()
    model: OwnModel | None = None
    reference: Backend | None = None
    is_named: bool = False

    @classmethod
    def of(
        cls,
        backends: Sequence[str],
        implementations: Sequence[str] = (),
        places: Sequence[str] = (),
        model: Path | None = None,
        reference: str | None = None,
        is_mixed: bool = False,
    ) -> Chosen:
        """What options say; no backend named means every framework, of a file those that it has.

        The ensemble of mixed precision (``is_mixed``) is a framework's: NumPy has none.

        Raises:
            ParityError: if there is no such backend, or the file cannot be used.
        """
        found = discover()
        if unknown := [name for name in implementations if name not in IMPLEMENTATIONS]:
            raise ParityError(
                "implementations",
                f"some of {', '.join(IMPLEMENTATIONS)}",
                ", ".join(unknown),
                "choose among them",
            )
        if model is None:
            return cls(choose(backends, found, places), implementations)
        given = read_model(model, found)
        frameworks = [name for name in given.backends if found[name].is_framework]
        plain = [name for name in given.backends if name not in frameworks]
        chosen = choose(backends or frameworks or plain, found, places)
        first = [*plain, *frameworks][0] if not (is_mixed and frameworks) else frameworks[0]
        (by,) = choose([reference or first], found, places)
        given.check_backends([backend.name for backend in (*chosen, by)])
        return cls(chosen, [model.stem], given, by, reference is not None)

    @property
    def wanted(self) -> list[Backend]:
        """Those whose environments are needed."""
        needed = [*self.backends, *([self.reference] if self.reference else [])]
        return [*{backend.label: backend for backend in needed}.values()]

    def names(self, backend: Backend) -> list[str]:
        """What a backend trains."""
        named = self.implementations or backend.implementations or IMPLEMENTATIONS
        return list(dict.fromkeys(named))

    def contenders(self, environments: Mapping[str, Environment]) -> list[Contender]:
        """What is compared, by the environments of :attr:`wanted`."""
        return [Contender(environments[b.label], n) for b in self.backends for n in self.names(b)]

    def subject(self, environments: Mapping[str, Environment]) -> Subject:
        """What is trained. A NumPy model, which is by hand, nobody has to confirm.

        Raises:
            NotRunError: if there is no environment for the reference.
        """
        if self.model is None or self.reference is None:
            return Subject()
        by = environments[self.reference.label]
        if by.python is None:
            raise NotRunError(
                self.reference.label,
                "the framework of the reference",
                f"none: {by.reason}",
                "mend that or name another --python",
            )
        runs = self.contenders(environments) if self.reference.is_framework else []
        others = [c for c in runs if c.backend != by.backend and c.environment.python]
        return Subject(self.model, by, next(iter(others), None), self.is_named)


def chosen_by(options: SaveOptions | SeedsOptions) -> Chosen:
    """What the options of a command say that takes a file in place of softmax regression."""
    more = (options.places, options.own_model, options.reference)
    return Chosen.of(options.backends, options.implementations, *more)


def read_model(path: Path, backends: Iterable[str]) -> OwnModel:
    """What :meth:`OwnModel.load` finds, by a process of its own: a file may end the one it is in.

    Raises:
        ParityError: as :meth:`OwnModel.load` does, and if the file ends that process.
    """
    found = ask("read_model", path, backends).facts
    shapes = {name: tuple(shape) for name, shape in found["shapes"].items()}
    return OwnModel(
        *(path, shapes, tuple(found["backends"])),
        makes_targets=bool(found["makes_targets"]),
        loss_scale=float(found["loss_scale"]),
    )
