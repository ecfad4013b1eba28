"""Python code as HTML, highlighted in colours that can be read on light and on dark."""

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from pygments.style import Style
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Token


class InkStyle(Style):
    """Few colours, of which each has a contrast of 4 and more to white and to #111111.

    So neither a background nor a media query is needed: where code is shown, its own ink and
    paper hold. A front end that drops style sheets keeps them, since they are in the elements.
    """

    background_color = "transparent"
    styles = {  # noqa: RUF012 (pygments' own interface)
        Token: "",
        Comment: "italic #7c7c7c",
        Keyword: "bold #0a7fc4",
        Keyword.Constant: "nobold #a35bc4",
        Operator.Word: "bold #0a7fc4",
        Name.Class: "bold",
        Name.Decorator: "#a35bc4",
        Name.Function: "bold",
        Number: "#cc5a00",
        String: "#008a5e",
    }


def highlighted(code: str) -> str:
    """The code as HTML to be put into a ``pre`` element; its own markup is escaped."""
    formatter = HtmlFormatter(style=InkStyle, noclasses=True, nowrap=True)
    return str(highlight(code, PythonLexer(stripnl=False), formatter))
