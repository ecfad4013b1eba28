"""A figure that a notebook draws, though it is not pyplot's."""

import io

from matplotlib.figure import Figure


class Drawing(Figure):
    """A figure of Matplotlib. Notebooks draw those of pyplot; this one shows itself."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()
