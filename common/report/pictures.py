"""Pictures of the page as PNG data URIs: many examples in one sheet, weights in red and blue."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.replay import Floats

SHEET_COLUMNS = 24
SHEET_PIXELS = 200_000
"""A sheet has no more pixels than this: 255 images of Fashion-MNIST."""

SHOWN_PIXELS = 56

WEIGHT_PIXELS = 40_000
"""Weights of more numbers than this are not drawn."""

LEVELS = 24
"""Shades of red, and of blue."""

RED, BLUE = (213, 60, 30), (0, 105, 190)


@dataclass(frozen=True)
class Sheet:
    """Example images in one picture.

    Args:
        uri: the picture.
        height, width: of one image, in pixels.
        places: row and column of each example in the sheet.
    """

    uri: str
    height: int
    width: int
    places: dict[int, tuple[int, int]]

    @property
    def zoom(self) -> int:
        """How many times its size an image is shown: about as large as 56 pixels."""
        return max(1, round(SHOWN_PIXELS / self.height))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the sheet."""
        rows = 1 + max(row for row, _ in self.places.values())
        return rows, min(len(self.places), SHEET_COLUMNS)


def room(data: DataModule) -> int:
    """How many of a data set's images a sheet holds."""
    assert data.image_shape is not None
    return SHEET_PIXELS // int(np.prod(data.image_shape))


def sheet(data: DataModule, examples: Sequence[int]) -> Sheet | None:
    """A sheet of validation images; None if there are none to show."""
    kept = list(dict.fromkeys(examples))[: room(data)]
    if not kept or data.image_shape is None:
        return None
    height, width = data.image_shape
    X = data.scale(data.X_val[sorted(kept)]).reshape(-1, height, width)
    if data.X_val.dtype != np.uint8:
        X = (X - X.min()) / max(float(np.ptp(X)), 1e-12)
    grey = dict(zip(sorted(kept), (255 * X.clip(0, 1)).astype(np.uint8), strict=True))
    places = {row: divmod(i, SHEET_COLUMNS) for i, row in enumerate(kept)}
    rows = -(-len(kept) // SHEET_COLUMNS)
    canvas = np.zeros((rows * height, min(len(kept), SHEET_COLUMNS) * width), np.uint8)
    for example, (i, j) in places.items():
        canvas[i * height : (i + 1) * height, j * width : (j + 1) * width] = grey[example]
    return Sheet(_uri(canvas), height, width, places)


def weight_picture(W: Floats, image_shape: tuple[int, ...]) -> str | None:
    """The weights of all classes side by side; the stronger, the more colour, clear at zero.

    Args:
        W: shape ``(num_inputs, num_outputs)``.
        image_shape: of an example.

    Returns:
        The picture as a data URI, red where weights are positive; None if there are too many.
    """
    if W.size > WEIGHT_PIXELS:
        return None
    most = max(float(np.abs(W).max()), 1e-300)
    tiles = W.T.reshape(-1, *image_shape)
    levels = np.rint(np.concatenate(list(tiles), axis=1) / most * LEVELS).astype(int) + LEVELS
    colours = [BLUE] * LEVELS + [RED] * (LEVELS + 1)
    clear = [round(255 * abs(i - LEVELS) / LEVELS) for i in range(2 * LEVELS + 1)]
    return _uri(levels.astype(np.uint8), sum(colours, ()), bytes(clear))


def _uri(pixels: Array, palette: Sequence[int] = (), clear: bytes = b"") -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    options: dict[str, Any] = {}
    if palette:
        image.putpalette(list(palette))
        options["transparency"] = clear
    written = io.BytesIO()
    image.save(written, "PNG", **options)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
