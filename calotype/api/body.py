"""Bodies of requests: JSON, read strictly, and uploads, passed on as they arrive."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, NoReturn
from urllib.parse import parse_qs

import anyio.from_thread
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from calotype.api.errors import Refusal
from calotype.api.security import too_large
from calotype.options import shown

MAX_JSON = 1 << 20  # bytes of a body of JSON; pictures are uploaded
MAX_DEPTH = 32  # of nested lists and objects
MAX_VALUES = 200_000  # of a body, about: its commas and brackets
MAX_FIELDS = 10_000  # of a form without files
MAX_PARTS = 100  # of a form: texts, and as many files
TIMEOUT = 60.0  # seconds to wait for the next part of a body


async def read_json(request: Request, limit: int = MAX_JSON) -> dict[str, Any]:
    """The object in the body.

    Raises:
        Refusal: another content type, more bytes than `limit`, invalid JSON, or no object.
    """
    check_media_type(request)
    return parse_object(await read_body(request, limit))


def check_media_type(request: Request) -> None:
    """A form of another site cannot send this type without asking first."""
    if _media_type(request) != "application/json":
        raise Refusal(415, "the body is JSON; send it with the content type application/json")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_fields(request: Request, name: str, limit: int) -> list[str]:
    """The values of a field of the form in the body.

    Raises:
        Refusal: another content type, more bytes than `limit`, or too many fields.
    """
    if _media_type(request) != "application/x-www-form-urlencoded":
        raise Refusal(415, "the body is a form; send it with the content type application/x-www-form-urlencoded")
    return (await read_form(request, limit)).get(name, [])


async def read_form(request: Request, limit: int, max_fields: int = MAX_FIELDS) -> dict[str, list[str]]:
    """The fields of the form in the body. Raises Refusal: more bytes than `limit`, or too many fields."""
    content = (await read_body(request, limit)).decode("utf-8", "replace")
    try:
        return parse_qs(content, max_num_fields=max_fields)
    except ValueError:
        raise Refusal(400, "the form in the body is not valid: {reason}", reason="too many fields") from None


async def read_body(request: Request, limit: int) -> bytes:
    content = bytearray()
    stream = request.stream()
    while chunk := await _next_chunk(stream):
        content += chunk
        if len(content) > limit:
            raise too_large(limit)
    return bytes(content)


async def _next_chunk(stream: Any) -> bytes:
    """Empty at the end."""
    try:
        async with asyncio.timeout(TIMEOUT):
            async for chunk in stream:
                if chunk:
                    return chunk
    except TimeoutError:
        raise Refusal(400, "the body of the request did not arrive within {seconds:g} s", seconds=TIMEOUT) from None
    return b""


def parse_object(content: bytes) -> dict[str, Any]:
    """Raises Refusal: not UTF-8, not JSON as the standard has it (no NaN), too many values, or not an object."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Refusal(413, "the body has more than {count} values", count=MAX_VALUES)
    try:
        data = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except ValueError as fault:
        reason = str(fault) if isinstance(fault, json.JSONDecodeError) else "a number is too long"
        raise Refusal(400, "the body is not valid JSON: {reason}", reason=reason) from None
    if not isinstance(data, dict):
        raise Refusal(422, "the body is an object, not {value}", value=shown(data))
    if _is_deeper(data, MAX_DEPTH):
        raise Refusal(400, "the body is nested too deeply")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not allowed", "", 0)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    entries = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(entry, levels - 1) for entry in entries)


@dataclass(frozen=True)
class Form:
    """The parts of a form: texts, and files in the order of the body."""

    texts: dict[str, str]
    files: list[tuple[str, SpooledTemporaryFile]]


@contextlib.asynccontextmanager
async def open_form(request: Request) -> AsyncIterator[Form]:
    """The body as multipart/form-data. Its files lie in temporary files, and are deleted at the end.

    Raises:
        Refusal: another content type, no valid form, too many parts, a text twice, or one that is too long.
    """
    if _media_type(request) != "multipart/form-data":
        raise Refusal(415, "the body is a form; send it with the content type multipart/form-data")
    chunks = _chunks(request.stream())
    parser = MultiPartParser(request.headers, chunks, max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=MAX_JSON)
    try:
        data = await parser.parse()
    except (MultiPartException, UnicodeError, LookupError) as fault:  # a charset that is none, too
        raise Refusal(400, "the form in the body is not valid: {reason}", reason=str(fault)) from None
    try:
        yield _form(data)
    finally:
        await data.close()


def _form(data: FormData) -> Form:
    texts: dict[str, str] = {}
    files: list[tuple[str, SpooledTemporaryFile]] = []
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, value.file))
        elif name in texts:
            raise Refusal(422, "{option} is given twice", option=name[:100])
        else:
            texts[name] = value
    return Form(texts, files)


async def _chunks(stream: Any) -> AsyncIterator[bytes]:
    while chunk := await _next_chunk(stream):
        yield chunk


class BodyStream:
    """The body as a binary file, for a function that runs in a thread of the server's pool."""

    def __init__(self, request: Request):
        self._stream, self._rest = request.stream(), b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all that have arrived if negative; empty at the end."""
        if not self._rest:
            self._rest = anyio.from_thread.run(_next_chunk, self._stream)
        size = len(self._rest) if size < 0 else size
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk
