"""The page for images and videos of one's own: drop them, and see faces, emotions and scores."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from starlette.responses import Response, StreamingResponse

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import DataError
from fer_edge.utils.limits import UPLOAD_IMAGE_BYTES, UPLOAD_VIDEO_BYTES, UPLOAD_VIDEO_S, UPLOADS
from fer_edge_device.web.site import Site, error_response, file_response, json_response
from fer_edge_device.web.uploads import (
    clean_name,
    csv_header,
    is_video,
    open_video_file,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request

    from fer_edge.tagging.options import TagOptions
    from fer_edge_device.web.access import Access
    from fer_edge_device.web.uploads import UploadModel

_T = TypeVar("_T")
_SILENT_S: Final = 10.0  # without a byte of an upload
_MIN_EVERY_S: Final = 0.02
_MAX_EVERY_S: Final = 60.0


class _RequestError(Exception):
    """What is wrong with a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ImagesApp:
    """Answers requests with what models see in uploads.

    Attributes:
        site: checks and answers the requests.
    """

    def __init__(self, models: Mapping[str, UploadModel], access: Access, *, tls: bool) -> None:
        """Make the application.

        Args:
            models: what can be chosen, by name.
            access: who gets in.
            tls: whether the page is served by https.
        """
        self._models = models
        self._access = access
        self._uploads = 0
        get = {"/": self._page, "/api/models": self._list_models, "/healthz": self._healthz}
        post = {"/api/recognize": self._recognize, "/api/annotate": self._annotate}
        self.site = Site(get, post, access, tls=tls, media="blob:")

    async def _page(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a route
        return file_response("images.html")

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        return json_response({"healthy": True})

    async def _list_models(self, request: Request) -> Response:  # noqa: ARG002 - likewise
        models = [
            {
                "name": name,
                "sha256": model.provenance.model_sha256,
                "labels": model.provenance.labels,
                "csv_header": csv_header(model.provenance),
            }
            for name, model in self._models.items()
        ]
        labels = {label for model in self._models.values() for label in model.provenance.labels}
        return json_response(
            {
                "version": version("fer-edge"),
                "models": models,
                "colours": {label: emotion_colour(label).css for label in sorted(labels)},
                "has_login": self._access.needs_token,
                "max_image_bytes": UPLOAD_IMAGE_BYTES,
                "max_video_bytes": UPLOAD_VIDEO_BYTES,
                "max_video_s": UPLOAD_VIDEO_S,
            }
        )

    async def _recognize(self, request: Request) -> Response:
        """Answer with lines of JSON: one for an image, one for each part of a video."""
        try:
            model, name, options = self._model(request), _name(request), self._read_options(request)
            if is_video(name, request.headers.get("content-type", "")):
                parts = self._recognize_video(request, model, name, options)
                first = await anext(parts)  # errors come before the answer begins
                return StreamingResponse(_chain(first, parts), media_type="application/x-ndjson")
            async with self._receiving():
                data = await _receive_image(request)
                found = await _in_thread(model, lambda: model.recognize_image(data, name, options))
        except _RequestError as error:
            return error_response(error.status, str(error))
        return Response(_line(found), media_type="application/x-ndjson")

    async def _recognize_video(
        self, request: Request, model: UploadModel, name: str, options: TagOptions
    ) -> AsyncIterator[bytes]:
        """Yield a line for each part of the video that a request sends."""
        async with self._receiving():
            video = open_video_file()
            try:
                await _receive(request, video.write, UPLOAD_VIDEO_BYTES)
                video.flush()
                parts = model.recognize_video(video, name, options)
                while (part := await _in_thread(model, lambda: next(parts, None))) is not None:
                    yield _line(part)
            finally:
                model.thread.submit(video.close)  # after what the thread still does, if the browser has gone

    async def _annotate(self, request: Request) -> Response:
        """Answer with the image, with the faces drawn, as JPEG."""
        try:
            model, name, options = self._model(request), _name(request), self._read_options(request)
            async with self._receiving():
                data = await _receive_image(request)
                image = await _in_thread(model, lambda: model.annotate(data, name, options))
        except _RequestError as error:
            return error_response(error.status, str(error))
        except DataError as error:
            return error_response(422, str(error))
        return Response(image, media_type="image/jpeg")

    @asynccontextmanager
    async def _receiving(self) -> AsyncIterator[None]:
        """Count an upload, all of which is in memory.

        Raises:
            _RequestError: there are too many.
        """
        if self._uploads >= UPLOADS:
            raise _RequestError(503, "busy with other uploads; try again")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    def _model(self, request: Request) -> UploadModel:
        name = request.query_params.get("model", next(iter(self._models)))
        if name not in self._models:
            raise _RequestError(400, f"model: choose one of {', '.join(self._models)}")
        return self._models[name]

    def _read_options(self, request: Request) -> TagOptions:
        face, every = request.query_params.get("face", "false"), None
        if face not in {"true", "false"}:
            raise _RequestError(400, "face: give true or false")
        if text := request.query_params.get("every", ""):
            with suppress(ValueError):
                every = float(text)
            if every is None or not math.isfinite(every) or not _MIN_EVERY_S <= every <= _MAX_EVERY_S:
                raise _RequestError(400, f"every: give seconds from {_MIN_EVERY_S:g} to {_MAX_EVERY_S:g}")
        model = self._model(request)
        return msgspec.structs.replace(model.options, face=face == "true", every=every)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for each in rest:
        yield each


def _name(request: Request) -> str:
    return clean_name(request.query_params.get("name", ""))


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


async def _in_thread(model: UploadModel, call: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(model.thread, call)


async def _receive_image(request: Request) -> bytes:
    data = bytearray()
    await _receive(request, data.extend, UPLOAD_IMAGE_BYTES)
    if not data:
        raise _RequestError(400, "an empty file")
    return bytes(data)


async def _receive(request: Request, write: Callable[[bytes], object], most: int) -> None:
    """Receive the body of a request.

    Raises:
        _RequestError: it is too large, or too slow.
    """
    size = int(request.headers.get("content-length", "0"))
    chunks, received = request.stream(), 0
    try:
        while size <= most:
            chunk = await asyncio.wait_for(anext(chunks, None), _SILENT_S)
            if chunk is None:
                return
            received += len(chunk)
            size = max(size, received)
            write(chunk)
    except TimeoutError:
        raise _RequestError(408, f"nothing came for {_SILENT_S:g} seconds") from None
    raise _RequestError(413, f"larger than {most >> 20} MB; `fer-edge tag` takes files of any size")
