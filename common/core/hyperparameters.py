"""The book's small conveniences for classes that grow over several notebook cells."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any


def add_to_class(cls: type) -> Callable[[Any], Any]:
    """Decorator: register a function as a method of a class that exists already.

    The book's ``@d2l.add_to_class(Classifier)``.
    """

    def register(method: Any) -> Any:
        setattr(cls, _name_of(method), method)
        return method

    return register


def _name_of(method: Any) -> str:
    # A jitted or partially applied method carries its name inside, as the chapters' JAX tabs do.
    while not hasattr(method, "__name__"):
        method = method.func
    return str(method.__name__)


class HyperParameters:
    """The book's base class whose ``save_hyperparameters`` keeps ``__init__``'s arguments."""

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Save the arguments of the calling ``__init__`` as attributes of the same name.

        Args:
            ignore: names of arguments that are not kept.
        """
        caller: FrameType = inspect.currentframe().f_back  # type: ignore[union-attr,assignment]
        _, _, _, values = inspect.getargvalues(caller)
        self.hparams = {
            name: value
            for name, value in values.items()
            if name not in {*ignore, "self", "__class__"} and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)
