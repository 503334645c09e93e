"""What a message may do to whoever runs it: nothing. Attacks on the template language."""

import pandas as pd
import pytest

from tasks.composition import Template, TemplateError

COLUMNS = ["first_name", "vip"]
# Long, short and missing, as an audience file can have it.
AUDIENCE = pd.DataFrame({"first_name": ["a" * 60_000, "x", None], "vip": ["1", "0", None]})


@pytest.mark.parametrize(
    "message",
    [
        "{{ first_name.__class__.__mro__ }}",
        "{{ first_name['__class__'] }}",
        "{{ first_name | attr('__class__') }}",
        "{{ first_name | map(attribute='__class__') }}",
        "{{ first_name | default(first_name.__class__) }}",
        "{{ first_name | replace('x', first_name.__class__) }}",
        "{{ ''.__class__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ namespace() }}",
        "{{ __import__('os') }}",
        "{{ __builtins__ }}",
        "{{ loop }}",
        "{{ caller() }}",
        "{{ varargs }}",
        "{{ config }}",
        "{{ first_name() }}",
        "{{ first_name is callable }}",
        "{% if first_name is filter %}x{% endif %}",
        "{% include '/etc/passwd' %}",
        "{% include first_name %}",
        "{% import 'os' as os %}",
        "{% from 'os' import system %}",
        "{% extends '/etc/passwd' %}",
        "{% set x = 1 %}x",
        "{% macro m() %}{% endmacro %}x",
        "{% call first_name() %}{% endcall %}",
        "{% block b %}{% endblock %}x",
        "{% with a = 1 %}x{% endwith %}",
        "{% filter upper %}x{% endfilter %}",
        "{% autoescape true %}x{% endautoescape %}",
        "{% do x %}",
        "{% debug %}",
        "{{ {'a': 1} }}",
    ],
)
def test_a_message_has_no_way_out(message: str) -> None:
    with pytest.raises(TemplateError, match=r"^[^\n]+$"):
        Template(message, COLUMNS)


@pytest.mark.parametrize(
    "message",
    [
        "{{ 9**9**9 }}",
        "{{ 'x' * 10**9 }}",
        "{{ range(10**9) }}",
        "{% for x in range(10**9) %}x{% endfor %}",
        "{% for x in first_name %}x{% endfor %}",
        "{{ first_name | center(10**9) }}",
        "{{ '%0999999999d' | format(1) }}",
        "{{ first_name | indent(999999999) }}",
        "{{ first_name | wordwrap(1) }}",
        "{{ first_name | list | tojson }}",
        "{{ " + "(" * 4_000 + "first_name" + ")" * 4_000 + " }}",
        "{{ " + "not " * 2_000 + "first_name }}",
        "{{ first_name" + " | upper" * 1_000 + " }}",
        "{{ first_name" + " | replace('', first_name)" * 300 + " }}",
        "{{ " + "first_name if vip else " * 400 + "'x' }}",
        "{% if vip %}" * 300 + "x" + "{% endif %}" * 300,
        "{{ " + "9" * 5_000 + " }}",
        "{{ 0x" + "f" * 9_000 + " }}",
        "{#" + "x" * 10_000 + "#}x",
    ],
)
def test_a_message_cannot_fill_memory_or_time(message: str) -> None:
    with pytest.raises(TemplateError, match=r"^[^\n]+$"):
        Template(message, COLUMNS)


@pytest.mark.parametrize(
    "message",
    [
        "{{ 'aaaaaaaaaa'" + " | replace('a', 'aaaaaaaaaa')" * 12 + " }}",
        "{{ first_name" + " | replace('x', 'xxxxxxxxxx')" * 12 + " }}",
        "{{ first_name | replace('', 'xxxxxxxxxx') | replace('', first_name) }}",
        "{{ " + "first_name or " * 100 + "'x' }}",
    ],
)
def test_what_grows_is_cut_off_before_it_is_large(message: str) -> None:
    written = Template(message, COLUMNS).render(AUDIENCE.astype("str"))
    assert written["reason"][0] == "text_too_long"
    assert written["text"].str.len().max() <= 1_600 or written["text"].isna().all()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Hi\0", "line 1 of the message: the character U+0000"),
        ("Hi\nyou \ud800", "line 2 of the message: the character U+D800"),
        ("Hi {{ '\\x00' }}", "U+0000"),
        ("Hi {{ first_name | default('\\ud800') }}", "U+D800"),
        ("Hi {% if vip == '\\x1b' %}x{% endif %}", "U+001B"),
    ],
)
def test_what_no_database_can_store_is_refused(message: str, words: str) -> None:
    with pytest.raises(TemplateError) as error:
        Template(message, COLUMNS)
    assert words in str(error.value).replace("\\", "")


def test_a_message_from_windows_keeps_its_lines() -> None:
    written = Template("Hi\r\n{{ first_name }}", COLUMNS).render(AUDIENCE[1:2].astype("str"))
    assert written["text"].tolist() == ["Hi\nx"]


def test_a_value_is_text_and_never_a_template() -> None:
    frame = pd.DataFrame({"first_name": ["{{ vip }}", "{% include 'x' %}"], "vip": ["1", "1"]})
    written = Template("Hi {{ first_name }}", COLUMNS).render(frame.astype("str"))
    assert written["text"].tolist() == ["Hi {{ vip }}", "Hi {% include 'x' %}"]
