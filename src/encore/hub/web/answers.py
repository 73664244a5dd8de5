"""How pages are answered: whole, or as the part that htmx asks for; and errors as pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from encore.base.errors import InputError
from encore.hub.limiting import TooOftenError
from encore.hub.web.hub import hub_of, reader_of
from encore.hub.web.security import form_token, with_visitor

_TITLES = {
    400: "That did not work",
    401: "Sign in first",
    403: "Not from here",
    404: "Nothing here",
    405: "Not like this",
    413: "Too large",
    415: "No files here",
    422: "That did not work",
    429: "Too often",
    500: "A fault of ours",
}


def page(request: Request, name: str, *, status: int = 200, with_form: bool = False, **values: Any) -> Response:
    """A template as a page.

    Args:
        request: what is answered.
        name: of the template.
        status: of the answer.
        with_form: whether the page holds a form that those who are not signed in may send.
        values: for the template.
    """
    reader = reader_of(request)
    token = form_token(request) if with_form or reader is not None else ""
    text = hub_of(request).render(name, reader=reader, form_token=token, path=request.url.path, **values)
    response = HTMLResponse(text, status_code=status)
    return with_visitor(request, response) if with_form else response


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program."""
    return request.url.path.startswith("/api/") or request.url.path.endswith(".json")


def back(request: Request, otherwise: str) -> RedirectResponse:
    """To the page of ours that a form was on."""
    came_from = urlsplit(request.headers.get("referer", ""))
    ours = came_from.netloc == request.headers.get("host") and came_from.path.startswith("/")
    query = f"?{came_from.query}" if came_from.query else ""
    # one slash at the start: two would be an address on another host
    return RedirectResponse("/" + came_from.path.lstrip("/") + query if ours else otherwise, status_code=303)


def problem(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """An error: a page for people, JSON for programs, a line for htmx."""
    if wants_json(request):
        return JSONResponse({"detail": text}, status_code=status, headers=headers)
    if is_partial(request):
        return HTMLResponse(hub_of(request).render("notice.html", text=text), status_code=status, headers=headers)
    response = page(request, "problem.html", status=status, title=_TITLES.get(status, _TITLES[400]), text=text)
    response.headers.update(headers or {})
    return response


def fault(request: Request) -> Response:
    """The answer to a fault of ours, which the log has."""
    return problem(request, 500, "This should not have happened. It is written down; please try again later.")


def add_error_pages(app: FastAPI) -> None:
    """Answer every error in the way that whoever asked can read."""

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        texts = {404: "There is no such page.", 405: "This address cannot be used in this way."}
        detail = str(error.detail)
        own = detail not in {"Not Found", "Method Not Allowed"}
        return problem(
            request, error.status_code, detail if own else texts[error.status_code], dict(error.headers or {})
        )

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(request, 422, f"{where}: {first['msg']}")

    @app.exception_handler(TooOftenError)
    def _too_often(request: Request, error: TooOftenError) -> Response:
        return problem(request, 429, str(error), {"retry-after": str(error.seconds)})

    @app.exception_handler(InputError)
    def _input(request: Request, error: InputError) -> Response:
        return problem(request, 400, str(error))
