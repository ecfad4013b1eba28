"""Parameters of layers as they stand: what a framework holds, in the layout of the mathematics.

Each backend's ``layers.py`` walks a model and gives an :class:`Entry` for every parameter of it,
in the order of the network. The canonical layouts, in which all frameworks are compared:

====================== ======================================================================
kind                   roles, and their axes
====================== ======================================================================
linear                 weight, inputs × outputs; bias
convolution            weight, kernel axes × inputs of a group × outputs; bias. Depthwise is
                       one with a group for each input
transposed convolution weight, kernel axes × inputs × outputs of a group, not flipped: what the
                       gradient of a convolution multiplies with; bias
… norm                 scale, offset; mean, variance: buffers, not trainable
embedding              weight, tokens × features
rnn, lstm, gru         weight, inputs × (gates · units); recurrent weight, units × (gates · units);
                       bias, recurrent bias. Gates: of an LSTM input, forget, cell, output; of a
                       GRU reset, update, new
attention              query, key, value weight, inputs × (heads · features); output weight,
                       (heads · features) × outputs; their biases
====================== ======================================================================

A parameter by hand has no kind, and its framework's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array

Layout = Callable[..., Array]
"""Makes one array of arrays: it moves numbers, and changes none."""


def as_it_is(array: Array) -> Array:
    """The layout of a framework that is the canonical one."""
    return array


def transposed(array: Array) -> Array:
    """Of outputs × inputs × kernel axes: kernel axes × inputs × outputs."""
    return array.transpose(*range(2, array.ndim), 1, 0)


def gates(order: Sequence[int], axis: int = -1) -> Callable[[Array], Array]:
    """A layout: the blocks of an axis in another order."""

    def moved(array: Array) -> Array:
        blocks = np.split(array, len(order), axis)
        return np.concatenate([blocks[i] for i in order], axis)

    return moved


def part(index: int, count: int, layout: Layout = as_it_is, axis: int = 0) -> Layout:
    """A layout: one of the blocks of an axis, in a layout."""
    return lambda array: layout(np.split(array, count, axis)[index])


@dataclass(frozen=True)
class Entry:
    """A parameter, or a buffer, of a layer.

    Buffers (running mean and variance: roles ``mean`` and ``variance``) come in the same list,
    behind the parameters of their layer, with ``trainable`` False; so do parameters that are
    frozen. Their ``tensors`` are named as the framework's own ``get_states``, ``named_buffers`` or
    collections (``batch_stats/…``) name them.

    Args:
        name: by which it is shown, and named in a file.
        layer: path of its layer, as the layer's activations are named; empty: the model itself.
            Behind it ``[…]`` where one layer of a framework is several.
        kind: of the layer, as above; empty: by hand.
        role: in the layer, as above; empty: by hand.
        tensors: shape of each tensor of the framework that it is made of, by name.
        layout: makes of these tensors the canonical array.
        trainable: whether an optimizer changes it.
    """

    name: str
    layer: str
    kind: str
    role: str
    tensors: Mapping[str, tuple[int, ...]]
    layout: Layout = as_it_is
    trainable: bool = True

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Where each canonical number stands among those of the tensors, one after another."""
        numbered, start = [], 0
        for shape in self.tensors.values():
            size = int(np.prod(shape))
            numbered.append(np.arange(start, start + size).reshape(shape))
            start += size
        return self.layout(*numbered)

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape."""
        return self.places.shape

    def read(self, arrays: Mapping[str, Array]) -> Array:
        """The canonical array, a copy, of the framework's arrays by name."""
        return np.array(self.layout(*(arrays[name] for name in self.tensors)), order="C")

    def write(self, value: Array, into: dict[str, Array]) -> None:
        """Undoes :meth:`read`: puts a canonical array where its numbers stand in ``into``."""
        for name, shape in self.tensors.items():
            into.setdefault(name, np.zeros(shape, value.dtype))
        flat = np.concatenate([into[name].reshape(-1) for name in self.tensors])
        flat[self.places.reshape(-1)] = np.reshape(value, -1)
        ends = np.cumsum([into[name].size for name in self.tensors])[:-1]
        for (name, shape), held in zip(self.tensors.items(), np.split(flat, ends), strict=True):
            into[name] = held.reshape(shape)


class Converter:
    """Canonical parameters of one framework's tensors, and back.

    Args:
        entries: by canonical name.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = dict(entries)

    def read(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Of arrays by the framework's names those by canonical name, as far as they are there.

        Parameters, gradients or what an optimizer keeps of each: all move alike.
        """
        return {
            name: entry.read(arrays)
            for name, entry in self.entries.items()
            if entry.tensors.keys() <= arrays.keys()
        }

    def arrange(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Undoes :meth:`read`."""
        into: dict[str, Array] = {}
        for name, value in parameters.items():
            self.entries[name].write(value, into)
        return into

    def __deepcopy__(self, memo: object) -> Converter:
        return self  # nothing of it changes

    def of_layer(self, path: str) -> dict[str, Entry]:
        """The parameters of a layer by canonical name; the path is that of its activation."""
        return {n: entry for n, entry in self.entries.items() if entry.layer.split("[")[0] == path}


class Walk:
    """Collects the entries of a model, layer by layer.

    Args:
        shapes: of every tensor by the framework's name.
        trainable: the names of those that are trained.
        separator: between a path and the name of a tensor.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        trainable: Iterable[str],
        separator: str = ".",
    ) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.trainable, self.separator = set(trainable), separator
        self.entries: list[Entry] = []

    def add(
        self,
        path: str,
        kind: str,
        role: str,
        tensors: str | Sequence[str],
        layout: Layout = as_it_is,
        name: str | None = None,
        unit: str = "",
    ) -> None:
        """Add a parameter of a layer, if the layer has it.

        Args:
            path: the layer's, in the framework's spelling.
            kind, role, layout: as of :class:`Entry`.
            tensors: their names, without the path.
            name: by which it is shown, without the path; by default the tensor's, if it is one.
            unit: which of several in one layer.
        """
        names = (tensors,) if isinstance(tensors, str) else tensors
        whole = [self._inside(path, tensor) for tensor in names]
        if not all(tensor in self.shapes for tensor in whole):
            return
        own = name or (names[0] if len(names) == 1 else role.replace(" ", "_"))
        self.entries.append(
            Entry(
                self._inside(path, own),
                path.replace(self.separator, ".") + (f"[{unit}]" if unit else ""),
                kind,
                role,
                {tensor: self.shapes[tensor] for tensor in whole},
                layout,
                self.trainable.issuperset(whole),
            )
        )

    def add_rest(self, path: str, names: Iterable[str]) -> None:
        """Add those trained tensors directly in a module that are in no entry: by hand."""
        known = {tensor for entry in self.entries for tensor in entry.tensors}
        for name in names:
            if name in self.shapes and name in self.trainable and name not in known:
                layer = path.replace(self.separator, ".")
                self.entries.append(Entry(name, layer, "", "", {name: self.shapes[name]}))

    def _inside(self, path: str, name: str) -> str:
        return f"{path}{self.separator}{name}" if path else name
