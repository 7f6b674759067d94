"""The models of a server of OpenAI's shape, their limits, and a chat with one that does not exist."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from api_worker.sandbox import openai_shapes as shapes
from api_worker.sandbox.fields import read_body
from api_worker.sandbox.refusals import Refused
from api_worker.sandbox.remote_job import Phase
from api_worker.sandbox.state import new_id

if TYPE_CHECKING:
    from starlette.requests import Request

    from api_worker.sandbox.desk import Desk

PLENTY = 1000  # told where the sandbox has no limit


@dataclass(frozen=True)
class ModelRoutes:
    """The handlers."""

    desk: Desk

    async def listed(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._models()})

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse(self._model(request.path_params["model"]))

    async def limits(self, _: Request) -> Response:
        now, rules = time.time(), self.desk.rules
        unfinished = [job for job in self.desk.jobs(now) if job.finished_at(now) is None and job.holds_slot]
        limits = (rules.max_jobs_a_day or PLENTY, rules.max_concurrent or PLENTY)
        return JSONResponse(shapes.model_limits(self.desk.models, limits, Counter(job.model for job in unfinished)))

    async def chat(self, request: Request) -> Response:
        body = read_body(await request.body())
        if body.get("stream"):
            raise Refused(400, "The sandbox has nothing to stream; ask without 'stream'.", param="stream")
        model = self._model(str(body.get("model")))
        return JSONResponse(shapes.completion_object(model["id"], new_id("chatcmpl"), time.time()))

    def _models(self) -> list[dict[str, Any]]:
        now = time.time()
        tuned = [job for job in self.desk.jobs(now) if job.phase(now) == Phase.SUCCEEDED]
        return [
            *(shapes.model_object(name, 0) for name in self.desk.models),
            *(shapes.model_object(shapes.tuned_model(job), job.ends_at) for job in tuned),
        ]

    def _model(self, name: str) -> dict[str, Any]:
        for model in self._models():
            if model["id"] == name:
                return model
        raise Refused(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")
