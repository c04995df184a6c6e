"""What a payload on a set topic can say, and that nothing else leaves the parser than a request or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CommandError
from bridge.request import LARGEST, Request, parse


def test_plain_text_is_the_value() -> None:
    assert parse(b"52.4") == Request("52.4")
    assert parse(b"grid first") == Request("grid first")


@pytest.mark.parametrize(
    ("payload", "request_"),
    [
        (b'{"value": 35}', Request("35")),
        (b' {"value": 51.20, "id": "a-1"}', Request("51.20", "a-1")),
        (b'{"value": "on", "expires": "1970-01-01T01:00:10+01:00"}', Request("on", None, 10.0)),
        (b'{"value": "on", "id": null, "expires": null}', Request("on")),
        (b'{"value": 1e1}', Request("1e1")),  # the spelling is for the setting to refuse
    ],
)
def test_an_object_says_the_same_and_more(payload: bytes, request_: Request) -> None:
    assert parse(payload) == request_


REFUSED = [
    b"", b"\xff\xfe", b"\xef\xbb\xbf5", b"5\n", b"\t5", "\uff15".encode(), b"\xed\xa0\x80", b"a\0b",
    b"x" * (LARGEST + 1),
    b"{", b"{}", b'{"value": true}', b'{"value": null}', b'{"value": ""}', b'{"value": [1]}', b'{"value": {"a": 1}}',
    b'{"value": NaN}', b'{"value": Infinity}', b'{"value": -Infinity}', b'{"value": 1, "value": 2}', b'{"vaule": 1}',
    b'{"value": 1, "other": 2}', b'{"value": "\\ud800"}', b'{"value": "\\uff15"}', b'{"value": "5\\n"}',
    b'{"value": 1} x', b'{"value": 1,}', b'{"value": 0x14}', b'{"value": 01}', b'{"value": +1}', b"{'value': 1}",
    b'{"value": 1, "id": 7}', b'{"value": 1, "id": ""}', b'{"value": 1, "id": "a b"}',
    b'{"value": 1, "id": "' + b"a" * 65 + b'"}', b'{"value": 1, "id": "a\\u0007"}', b'{"value": 1, "id": true}',
    b'{"value": 1, "expires": 1790000000}', b'{"value": 1, "expires": "2026-11-26T21:00:00"}',
    b'{"value": 1, "expires": "tomorrow"}', b'{"value": 1, "expires": "2026-13-26T21:00:00Z"}',
    b'{"a":' * 150 + b"1" + b"}" * 150,
]  # fmt: skip


@pytest.mark.parametrize("payload", REFUSED, ids=lambda one: ascii(one)[:50])
def test_anything_else_is_refused_with_a_reason(payload: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        parse(payload)
    said = str(caught.value)
    assert said.isascii()
    assert said.isprintable()
    assert 5 < len(said) < 300


def test_brackets_without_an_end_are_refused_even_if_the_limit_were_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.request.LARGEST", 1 << 20)
    with pytest.raises(CommandError):
        parse(b'{"value":' + b"[" * 100_000)


@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: ('{"value":' + text).encode("utf-8", "replace"))
)
def test_nothing_but_a_refusal_leaves_the_parser(payload: bytes) -> None:
    try:
        request = parse(payload)
    except CommandError:
        return
    assert request.text.isascii()
    assert request.text.isprintable()
    assert request.text
