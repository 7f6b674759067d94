"""How the sandbox says no, in OpenAI's shape."""

from __future__ import annotations

from starlette.responses import JSONResponse

from api_worker.sandbox.openai_shapes import error_object

Known = tuple[str, str | None, str]  # type, code, message

BY_STATUS: dict[int, Known] = {
    400: ("invalid_request_error", None, "The sandbox refuses this request because it was told to."),
    401: ("invalid_request_error", "invalid_api_key", "The sandbox refuses this API key because it was told to."),
    403: ("invalid_request_error", "training_not_available", "Training is not available to this organization."),
    404: ("invalid_request_error", None, "The sandbox finds nothing here because it was told to."),
    409: ("invalid_request_error", None, "The sandbox sees a conflict because it was told to."),
    410: ("invalid_request_error", None, "This route is gone."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The server is overloaded."),
}
BY_NAME: dict[str, tuple[int, Known]] = {
    "daily-cap": (
        429,
        (
            "invalid_request_error",
            "daily_rate_limit_exceeded",
            "This fine-tune request has been rate-limited. Your organization has reached the maximum of 5 fine-tuning "
            "requests per day for the model.",
        ),
    ),
    "quota": (
        429,
        (
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
    ),
}


class Refused(Exception):
    """The request is not carried out."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def answer(self) -> JSONResponse:
        kind = BY_STATUS[429][0] if self.status == 429 else "invalid_request_error"
        body = error_object(str(self), kind=kind, code=self.code, param=self.param)
        return JSONResponse(body, self.status)


def told_to(what: str, retry_after_seconds: float | None) -> JSONResponse:
    """The answer that a fault asks for, by status or name."""
    status, known = BY_NAME[what] if what in BY_NAME else (int(what), BY_STATUS.get(int(what)))
    kind, code, message = known or ("server_error", None, f"The sandbox answers {status} because it was told to.")
    headers = {} if retry_after_seconds is None else {"Retry-After": f"{retry_after_seconds:g}"}
    return JSONResponse(error_object(message, kind=kind, code=code), status, headers=headers)
