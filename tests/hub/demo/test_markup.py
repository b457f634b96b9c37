from hub.demo.markup import Html, el, join


def test_text_and_attributes_are_escaped_and_elements_are_not() -> None:
    inner = el("b", "1 < 2 & 3")

    assert inner == "<b>1 &lt; 2 &amp; 3</b>"
    assert el("p", inner, title='say "hi" <now>') == (
        '<p title="say &quot;hi&quot; &lt;now&gt;"><b>1 &lt; 2 &amp; 3</b></p>'
    )


def test_names_none_and_numbers() -> None:
    assert el("a", None, class_="x", stroke_width=1.0, x=2.26, y=None) == (
        '<a class="x" stroke-width="1" x="2.3"></a>'
    )
    assert el("meta", name="n") == '<meta name="n">'
    assert join("a", 1, 2.5, None, Html("<i>")) == "a12.5<i>"
