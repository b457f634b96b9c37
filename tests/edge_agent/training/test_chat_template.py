"""Chat templates: what transformers renders, and nothing that a template should not do."""

from datetime import datetime

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from edge_agent.errors import ModelError
from edge_agent.training.chat_template import compile_template

TURNS = [
    {"role": "user", "content": "a <b> & 'c' \"d\" é\n"},
    {"role": "assistant", "content": " e "},
    {"role": "user", "content": "f"},
]
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<i>"}


@pytest.mark.parametrize("speaks_next", [True, False])
@pytest.mark.parametrize(
    "source",
    [
        "{{ bos_token }}{{ eos_token }}{{ image_token }}{{ pad_token }}{{ unknown }}",
        "{{ messages | tojson }}{{ messages[0] | tojson(indent=2, ensure_ascii=true) }}",
        "{{ {'b': 1, 'a': [2]} | tojson(separators=(',', ':'), sort_keys=true) }}",
        "{% for m in messages %}\n  {% if loop.last %}\n{{ m.content }}\n"
        "  {% endif %}\n{% endfor %}\n",
        "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.role }}"
        "{% if m.content == 'f' %}{% break %}{% endif %}{% endfor %}",
        "{% set ns = namespace(n=0, self=1) %}{% for m in messages %}{% set ns.n = ns.n + 2 %}"
        "{% endfor %}{{ ns.n }}{{ ns.self }}",
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
        "{% for m in messages %}{% generation %}{{ m.content + loop.index | string }}"
        "{% endgeneration %}{% endfor %}",
        "{{ dict(a=1, b=2).items() | list }}{{ dict.fromkeys('ab', 0) }}{{ dict([('c', 3)]) }}",
        "{{ 'next' if add_generation_prompt }}{{ tools is none }}{{ documents is none }}",
        "{{ messages[0]['content'].strip().split('&') }}{{ messages[-1].content | upper }}",
        "{%- macro turn(m) -%} {{ m.role }} {%- endmacro -%} {{ turn(messages[1]) }}",
    ],
)
def test_text_is_that_of_transformers(source, speaks_next):
    expected, _ = render_jinja_template(
        [TURNS], chat_template=source, add_generation_prompt=speaks_next, **NAMES
    )
    assert compile_template(source, NAMES)(TURNS, speaks_next) == expected[0]


def test_today_is_known():
    year = compile_template("{{ strftime_now('%Y') }}", {})(TURNS, True)
    assert abs(int(year) - datetime.now().year) <= 1  # the year may have just turned


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception(messages[0].content) }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[0].nothing.more }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__() }}",
        "{% set _ = messages.append(1) %}",
        "{{ namespace(_hidden=1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ dict.mro() }}",
        "{{ 'x' * range(1000000) | length }}",
    ],
)
def test_a_template_that_fails_says_nothing_of_the_text(source):
    render = compile_template(source, NAMES)
    with pytest.raises(ModelError, match="chat template fails on turns of user") as caught:
        render([{"role": "user", "content": "SECRET"}], True)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("source", ["{% for %}", "{{ a", "{% generation %}", "{{ a | nofilter }}"])
def test_a_template_that_is_no_template_is_a_model_error(source):
    with pytest.raises(ModelError, match=r"not valid \(Template\w+Error in line 1\)"):
        compile_template(source, {})
