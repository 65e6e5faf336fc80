"""From what a page is about to HTML or, at the same address with `.json`, to JSON: both show the same."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from console import assets, words
from workers.contract.terminal import duration

_MOST_QUERY = 2000


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": words.ago,
        "clipped": words.clipped,
        "coded": coded,
        "duration": duration,
        "left": words.left,
        "minute": words.minute,
        "money": words.money,
        "number": words.number,
        "short": words.short,
        "size": words.size,
    }
    made.globals |= {"asset": assets.path, "between": words.between, "link": link}
    return made


def coded(text: str) -> Markup:
    """A sentence in which what stands in backticks is code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return Markup("{}").format(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else piece
        for number, piece in enumerate(pieces)
    )


def link(path: str, query: Mapping[str, Any], **changes: Any) -> str:
    """`path` with a query in which `changes` were made; what is None, empty or False is left out."""
    merged = {name: value for name, value in {**query, **changes}.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(merged)}" if merged else path


_ENVIRONMENT = _environment()


def wants_json(request: Request) -> bool:
    return bool(request.scope.get("as_json")) or "application/json" in request.headers.get("accept", "")


def page(
    request: Request, template: str, shown: Mapping[str, Any], *, status: int = 200, **only_html: Any
) -> Response:
    """`shown` is the page, and the JSON document; `only_html` is for the template alone."""
    if wants_json(request):
        return document(shown, status)
    site = request.app.state.site
    common = {
        "who": request.state.who if hasattr(request.state, "who") else "",
        "read_only": site.settings.read_only,
        "batch_path": site.batch_path,
        "has_several": site.has_several,
        "project_names": [*site.projects],
        "path": request.url.path,
        "json_path": _twin(request),
        "notice": request.query_params.get("done", ""),
    }
    html = _ENVIRONMENT.get_template(template).render({**common, **shown, **only_html})
    # Whatever came from outside: what can't be encoded must not end in an error.
    return HTMLResponse(html.encode("utf-8", "replace"), status)


def document(shown: Any, status: int = 200) -> Response:
    try:
        body = json.dumps(shown, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        body = json.dumps(shown).encode()
    return Response(body, status, media_type="application/json")


def trouble(request: Request, status: int, sentence: str) -> Response:
    """A page that says what is wrong, and what to do."""
    title = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Trouble"
    return page(request, "trouble.html", {"error": sentence}, status=status, title=title)


def back_to(path: str) -> Response:
    """After something was done: look at it."""
    return RedirectResponse(path, 303)


def _twin(request: Request) -> str:
    query = str(request.url.query)[:_MOST_QUERY]
    path = request.url.path if request.url.path != "/" else "/batches"
    return f"{path}.json" + (f"?{query}" if query else "")
