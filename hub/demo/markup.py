"""HTML and SVG elements as text in which nothing stays unescaped by accident."""

from html import escape


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


#: What stands for itself; an element's content or an attribute's value.
Content = Html | str | int | float | None
_VOID = {"br", "meta", "hr"}


def el(name: str, /, *children: Content, **attributes: Content) -> Html:
    """Return an element. Children that are not `Html` are escaped; None is left out.

    Attribute names lose a trailing underscore (``class_``) and write inner ones as hyphens
    (``stroke_width``); ``viewBox`` passes as it is. Numbers are written with at most one decimal.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Content) -> Html:
    """Return the children one after another."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(_plain(child), quote=False)
            for child in children
            if child is not None
        )
    )


def _plain(value: Content) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)
