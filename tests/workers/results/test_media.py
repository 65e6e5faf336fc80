import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.results.media import EXTENSIONS, canonical, contradiction
from workers.results.result import Rendered, parse, render

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + bytes(64)


def part(
    data: bytes | str, mime_type: str | None = "image/png", member: str = "inlineData"
) -> dict[str, Any]:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return {member: {"mimeType": mime_type, "data": text}}


def line_of(*candidates: list[dict[str, Any]]) -> bytes:
    contents = [{"content": {"parts": parts, "role": "model"}} for parts in candidates]
    return json.dumps({"key": "k", "response": {"candidates": contents}}).encode()


def rendered(line: bytes) -> Rendered:
    return render(parse(line), 0, 1)


def media_of(line: bytes) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(rendered(line).document)["media"]
    return entries


def parts_of(line: bytes, candidate: int = 0) -> list[dict[str, Any]]:
    document = json.loads(rendered(line).document)
    parts: list[dict[str, Any]] = document["response"]["candidates"][candidate]["content"]["parts"]
    return parts


def test_an_image_is_decoded_and_its_part_refers_to_the_object() -> None:
    line = line_of([{"text": "see"}, part(PNG)])
    [medium] = rendered(line).media
    assert (medium.object_name, medium.mime_type, medium.data) == ("media/k/0.png", "image/png", PNG)
    assert media_of(line) == [{"object": "media/k/0.png", "mime_type": "image/png", "bytes": len(PNG)}]
    file_data = {"mimeType": "image/png", "fileUri": "media/k/0.png"}
    assert parts_of(line) == [{"text": "see"}, {"fileData": file_data}]


def test_snake_case_is_an_image_too() -> None:
    data = base64.b64encode(PNG).decode()
    line = line_of([{"inline_data": {"mime_type": "image/png", "data": data}}])
    assert rendered(line).media[0].data == PNG
    assert list(parts_of(line)[0]) == ["fileData"]


def test_every_other_byte_of_the_response_is_untouched() -> None:
    before = b'{ "x":1e999,"candidates" : [ {"content":{"parts":[ {"z" : "\\u0041\\/", '
    after = b' , "thoughtSignature":"a=="} ] } }\t], "\\u0078": 1.50 }'
    member = b'"inline\\u0044ata" : {"mimeType":"image/png","data":"%b"}' % base64.b64encode(PNG)
    document = rendered(b'{"response":' + before + member + after + b',"key":"k"}').document
    file_data = b'"fileData":{"mimeType":"image/png","fileUri":"media/k/0.png"}'
    assert document.endswith(b',"response":' + before + file_data + after + b"}")


def test_media_are_numbered_in_their_order_across_candidates() -> None:
    line = line_of([part(PNG), part(JPEG, "image/jpeg")], [part(PNG)])
    names = [medium.object_name for medium in rendered(line).media]
    assert names == ["media/k/0.png", "media/k/1.jpg", "media/k/2.png"]
    assert parts_of(line, 1)[0]["fileData"]["fileUri"] == "media/k/2.png"


def test_media_of_thoughts_say_so_and_come_after_the_answers() -> None:
    thought = {"thought": True}
    broken = {"inlineData": {"mimeType": "image/png", "data": "%"}, **thought}
    line = line_of(
        [{"text": "A sketch.", **thought}, {**part(JPEG, "image/jpeg"), **thought}, broken, part(PNG)],
        [part(PNG)],
    )

    assert [(medium.object_name, medium.data) for medium in rendered(line).media] == [
        ("media/k/0.png", PNG),
        ("media/k/1.png", PNG),
        ("media/k/2.jpg", JPEG),
    ]
    entries = media_of(line)
    assert [entry["object"] for entry in entries] == ["media/k/0.png", "media/k/1.png", "media/k/2.jpg", None]
    assert [entry.get("thought") for entry in entries] == [None, None, True, True]
    sketch, answer = parts_of(line)[1], parts_of(line)[3]
    assert sketch == {"fileData": {"mimeType": "image/jpeg", "fileUri": "media/k/2.jpg"}, "thought": True}
    assert answer["fileData"]["fileUri"] == "media/k/0.png"


def test_a_result_that_has_thoughts_alone_has_their_media() -> None:
    [entry] = media_of(line_of([{**part(PNG), "thought": True}]))

    assert entry == {"object": "media/k/0.png", "mime_type": "image/png", "bytes": len(PNG), "thought": True}


@pytest.mark.parametrize("thought", [False, None, "true", 1])
def test_only_true_makes_a_thought(thought: object) -> None:
    assert "thought" not in media_of(line_of([{**part(PNG), "thought": thought}]))[0]


def test_the_same_bytes_elsewhere_in_the_response_stay() -> None:
    twin = part(PNG)
    contents = [{"content": {"parts": [{"functionCall": {"args": twin}}, twin, twin]}}]
    response = {"echo": twin, "candidates": contents, "tail": [twin]}
    document = json.loads(rendered(json.dumps({"response": response, "key": "k"}).encode()).document)
    assert len(document["media"]) == 2
    assert document["response"]["echo"] == twin
    assert document["response"]["tail"] == [twin]
    parts = document["response"]["candidates"][0]["content"]["parts"]
    assert parts[0] == {"functionCall": {"args": twin}}
    assert [part["fileData"]["fileUri"] for part in parts[1:]] == ["media/k/0.png", "media/k/1.png"]


def test_of_repeated_fields_the_last_medium_counts() -> None:
    one, two = base64.b64encode(JPEG).decode(), base64.b64encode(PNG).decode()
    repeated = f'{{"inlineData":{{"data":"{one}"}},"inlineData":{{"data":"!","data":"{two}"}}}}'
    line = (
        f'{{"key":"k","response":1,"response":{{"candidates":1,"candidates":'
        f'[{{"content":{{"parts":[{repeated}]}}}}]}}}}'
    ).encode()
    assert [medium.data for medium in rendered(line).media] == [PNG]
    assert json.loads(rendered(line).document)["status"] == "succeeded"


@pytest.mark.parametrize(
    "data",
    [
        *("%%%%", "a", "QUJD=", "QUJD==", "QUJD====", "QQ=", "QQ===", "QUI=QUI=", "QU JD", "QUJD\n", "QUJDé"),
        *("QUJD\x00", "QU\\/D", "QU\\", "====", '"', 5, None, {}, ["QUJD"]),
    ],
)
def test_broken_base64_marks_the_medium_and_not_the_line(data: object) -> None:
    broken = {"inlineData": {"mimeType": "image/png", "data": data}}
    line = line_of([broken, part(PNG), {"text": "t"}])
    document = json.loads(rendered(line).document)
    assert document["status"] == "succeeded"
    assert document["text"] == "t"
    assert set(document["media"][0]) == {"object", "mime_type", "error"}
    assert document["media"][0]["object"] is None
    assert document["media"][1]["object"] == "media/k/1.png"
    assert document["response"]["candidates"][0]["content"]["parts"][0] == broken


def test_inline_data_without_data_is_marked() -> None:
    assert media_of(line_of([{"inlineData": {"mimeType": "image/png"}}])) == [
        {"object": None, "mime_type": "image/png", "error": "there is no data"}
    ]


@pytest.mark.parametrize("inline", [None, "x", 5, [], [1]])
def test_inline_data_that_is_no_object_is_no_medium(inline: object) -> None:
    line = line_of([{"inlineData": inline}])
    assert media_of(line) == []
    assert parts_of(line) == [{"inlineData": inline}]


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans())
def test_both_alphabets_escapes_and_missing_padding_decode(
    data: bytes, url_safe: bool, padded: bool, escaped: bool
) -> None:
    digits = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    digits = digits if padded else digits.rstrip("=")
    line = line_of([part(digits)])
    if escaped and digits:
        head, marker, tail = line.rpartition(digits.encode())
        line = head + marker.replace(b"=", b"\\u003d").replace(b"/", b"\\/") + tail
    assert [medium.data for medium in rendered(line).media] == [data]


@pytest.mark.parametrize(
    ("mime_type", "extension", "content_type"),
    [
        ("image/png", "png", "image/png"),
        ("IMAGE/PNG", "png", "image/png"),
        ("image/jpg", "jpg", "image/jpeg"),
        ("audio/L16;codec=pcm;rate=24000", "pcm", "audio/l16"),
        ("text/plain; charset=utf-8", "txt", "text/plain"),
        ("text/html", "bin", "application/octet-stream"),
        ("image/svg+xml", "bin", "application/octet-stream"),
        ("application/xml", "bin", "application/octet-stream"),
        ("text/javascript", "bin", "application/octet-stream"),
        ("image/../../x", "bin", "application/octet-stream"),
        ("image/png\r\nX-Evil: 1", "bin", "application/octet-stream"),
        ("", "bin", "application/octet-stream"),
        (None, "bin", "application/octet-stream"),
    ],
)
def test_extension_and_content_type_come_from_the_allow_list(
    mime_type: str | None, extension: str, content_type: str
) -> None:
    line = line_of([part(PNG, mime_type)])
    [medium] = rendered(line).media
    assert medium.object_name == f"media/k/0.{extension}"
    assert medium.mime_type == content_type
    assert media_of(line)[0]["mime_type"] == mime_type


def test_nothing_a_browser_runs_is_on_the_allow_list() -> None:
    assert not {"html", "htm", "svg", "xml", "xhtml", "js", "mjs", "css"} & set(EXTENSIONS.values())


@pytest.mark.parametrize(
    ("declared", "data", "sniffed"),
    [
        ("image/png", PNG, None),
        ("image/png", JPEG, "image/jpeg"),
        ("image/jpeg", b"<!DOCTYPE html><script>", "text/html"),
        ("image/png", b'<?xml version="1.0"?> <svg onload="x">', "image/svg+xml"),
        ("image/png", b"no picture", "application/octet-stream"),
        ("image/png", b"", "application/octet-stream"),
        ("image/webp", b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        ("audio/x-wav", b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        ("audio/mp4", b"\x00\x00\x00\x1cftypisom", None),
        ("video/mp4", b"\x00\x00\x00\x1cftypavif", "image/avif"),
        ("audio/mpeg", b"\xff\xfb\x90\x00", None),
        ("audio/L16", bytes(64), None),
        ("text/plain", b"%PDF-1.7", "application/pdf"),
        ("application/x-unheard-of", b"abc", None),
    ],
)
def test_data_that_contradicts_its_declared_type_is_told(
    declared: str, data: bytes, sniffed: str | None
) -> None:
    assert contradiction(canonical(declared), data) == sniffed
    [entry] = media_of(line_of([part(data, declared)]))
    assert entry["mime_type"] == declared
    assert entry.get("sniffed_mime_type") == sniffed


@pytest.mark.parametrize("ending", [b"", b"=", b"\\u003d", b"-_=="])
@pytest.mark.parametrize("text", [b"an answer", "🙂".encode()])
def test_a_line_of_60_mb_costs_at_most_four_times_that_in_memory(ending: bytes, text: bytes) -> None:
    tail = b"QUJD" * 15_000_000 + {b"": b"", b"=": b"QUI", b"\\u003d": b"QUI", b"-_==": b""}[ending] + ending
    tracemalloc.start()
    try:
        line = (
            b'{"key":"k","response":{"candidates":[{"content":{"parts":[{"text":"%b"},'
            b'{"inlineData":{"mimeType":"image/png","data":"%b"}}]}}]}}' % (text, tail)
        )
        tracemalloc.reset_peak()
        result = rendered(line)
        assert len(result.document) < 1000
        assert len(result.media[0].data) >= 45_000_000
        assert tracemalloc.get_traced_memory()[1] < 4 * len(line)
    finally:
        tracemalloc.stop()
