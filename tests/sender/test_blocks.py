"""Blocks of good lines are read at once, others line by line: what is found never depends on which it was."""

import json
from io import BytesIO
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sender.check import Check
from sender.examine import examine
from sender.expectation import OutputLimits, config_of
from sender.lines import Configs, deprecated_in, good_lines

PARTS = st.sampled_from(
    [[{"text": "Hello?"}], [], {"text": "one"}, "text", [{"inlineData": {"data": "AA=="}}]]
)
NAMES = st.sampled_from(
    ["contents", "content", "generationConfig", "generation_config", "tools", "colour", "model"]
)
CONFIGS: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(["temperature", "top_p", "maxOutputTokens", "seed", "colour", "tools", "candidateCount"]),
    st.sampled_from([1, 2.5, "3", None, []]),
    max_size=3,
)
CONTENT: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {}, optional={"parts": PARTS, "role": st.sampled_from(["user", "model", "assistant", 3, [], None])}
)
REQUESTS = st.one_of(
    st.fixed_dictionaries(
        {"contents": st.lists(CONTENT, max_size=2)}, optional={"generationConfig": CONFIGS}
    ),
    st.fixed_dictionaries({"content": CONTENT}, optional={"taskType": st.just("CLUSTERING")}),
    st.dictionaries(NAMES, st.one_of(st.none(), CONFIGS, st.text(max_size=3), st.lists(CONTENT, max_size=1))),
    st.sampled_from([None, [], "text"]),
)
GOOD = st.builds(
    lambda key, config: {"key": key, "request": {"contents": [{"parts": [{"text": "Hi"}]}], **config}},
    st.text(min_size=1, max_size=4),
    st.sampled_from(
        [{}, {"generationConfig": {"maxOutputTokens": 4}}, {"generation_config": {"temperature": 1}}]
    ),
)
LINES = st.one_of(
    GOOD,
    GOOD,
    st.fixed_dictionaries(
        {}, optional={"key": st.sampled_from(["a", "b", "", 3, None]), "request": REQUESTS}
    ),
)
TEXTS = st.one_of(
    st.builds(lambda line: json.dumps(line).encode(), LINES),
    st.builds(lambda line: json.dumps(line, ensure_ascii=False).encode(), LINES),
    st.sampled_from(
        [b"", b" ", b"\r", b"{", b'{"key": "a\xff"}', b"\x00", b'{"key": "a", "key": "b", "request": {}}']
    ),
)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXTS, max_size=12), embeddings=st.booleans(), ends=st.booleans())
def test_a_block_says_what_its_lines_say(texts: list[bytes], embeddings: bool, ends: bool) -> None:
    look = Check(embeddings=embeddings)
    list(look.read(BytesIO(b"\n".join(texts) + (b"\n" if ends else b""))))

    expected, limits, keys = [], OutputLimits(), set()
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        examined = examine(text, embeddings=embeddings)
        expected += [(number, fault.rule) for fault in examined.faults]
        limits.add(config_of(examined.value))
        if examined.key in keys:
            expected.append((number, "key-repeated"))
        keys |= {examined.key} - {None}
    if not any(text.strip() for text in texts):
        expected = [(0, "file-empty")]
    shown = {rule for rule, count in look.findings.counts.items() if count <= 20}
    found = sorted((each.line, each.rule) for each in look.findings.first if each.rule in shown)
    assert found == sorted((line, rule) for line, rule in expected if rule in shown)
    if not embeddings:
        assert (look.limits.tokens, look.limits.unlimited) == (limits.tokens, limits.unlimited)


@settings(max_examples=300, deadline=None)
@given(line=LINES, embeddings=st.booleans())
def test_a_line_that_is_taken_at_a_glance_has_nothing_wrong_with_it(
    line: dict[str, Any], embeddings: bool
) -> None:
    text, configs = json.dumps(line).encode(), Configs()
    try:
        (found,) = good_lines(embeddings=embeddings).decode_lines(text)
        config = None if embeddings else configs.decoded(configs.of(found))
    except msgspec.MsgspecError:
        return
    faults = examine(text, embeddings=embeddings).faults
    assert [fault.field for fault in faults] == deprecated_in(config)


def test_as_many_requests_as_lines_are_not_yet_one_in_each() -> None:
    one = b'{"key": "a", "request": {"contents": [{"parts": [{"text": "Hi"}]}]}}'
    other = one.replace(b'"a"', b'"b"')
    check = Check()

    list(check.read(BytesIO(one + other[:-1] + b"\n" + b"}\n")))

    assert check.findings.counts
