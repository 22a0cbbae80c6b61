"""What a client may send to a function of the page: its own uploads, texts and choices, and nothing else.

Every way to a function leads through `GuardedBlocks.process_api`: the page's private functions, the endpoints for
programs, with and without the queue. Gradio 6.31 would download a web address on the server, and takes a file object
without `meta` for a file of the server itself.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr

from modeling.sentences import sentence

from .language import language_of
from .uploads import MAX_PICTURES

MAX_TEXT = 1000  # characters, where a field names no limit of its own
_OWN_ADDRESS = "/gradio_api/file="  # how the page shows an upload, and what `gradio upload-mcp` answers
_META = {"_type": "gradio.FileData"}
_SAMPLE = {"path": "examples/china.jpg", "url": "examples/china.jpg", "orig_name": "china.jpg", "meta": _META}

logger = logging.getLogger(__name__)


class InputError(ValueError):
    """A client sent what the page does not take: a code of the topic `requests`, and what its sentence names."""

    def __init__(self, code: str, **values: Any) -> None:
        super().__init__(code)
        self.code, self.values = code, values


class GuardedBlocks(gr.Blocks):
    """Blocks whose functions get checked inputs, and whose every error is one sentence."""

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Check what came, then go on as Gradio does; the next part of a running answer takes no new inputs."""
        request = kwargs.get("request")
        language = language_of(request if isinstance(request, gr.Request) else None)
        try:
            if kwargs.get("iterator") is None:
                function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
                if function.fn is None:  # one that the browser runs
                    raise InputError("no_endpoint")
                inputs = self._checked(function.inputs, inputs)
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except gr.Error:
            raise
        except InputError as error:
            raise gr.Error(
                sentence("requests", error.code, language, **error.values), print_exception=False
            ) from error
        except Exception as error:
            logger.exception("No answer to a request")
            raise gr.Error(sentence("page", "failed", language), print_exception=False) from error

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """What "Use via API" shows: Gradio's own samples are web addresses, which are refused."""
        info = super().get_api_info(*args, **kwargs)
        for endpoint in (info or {"named_endpoints": {}})["named_endpoints"].values():
            for field in endpoint["parameters"]:
                field["label"] = str(field["parameter_name"])
                if field["component"] in ("Image", "File"):
                    field["python_type"]["description"] = "A file of your own, which the client uploads."
                    field["example_input"] = [_SAMPLE] if field["component"] == "File" else _SAMPLE
        return info

    def has_stored(self, path: str) -> bool:
        """Whether this page stored the file: an upload, an example or an answer, not deleted meanwhile."""
        kept = (block.keep_in_cache for block in self.blocks.values() if isinstance(block, gr.components.Component))
        return any(path in files for files in (*self.temp_file_sets, *kept)) and Path(path).is_file()

    def _checked(self, blocks: Sequence[Any], inputs: list[Any]) -> list[Any]:
        if len(inputs) < len(blocks):
            raise InputError("too_few_inputs", expected=len(blocks), given=len(inputs))
        return [self._value(block, value) for block, value in zip(blocks, inputs, strict=False)]

    def _value(self, block: Any, value: Any) -> Any:
        """What a function may get for this component; the state of a session is never taken from a client."""
        if isinstance(block, gr.State) or value is None:
            return None
        if isinstance(block, gr.Image):
            return self._file(value)
        if isinstance(block, gr.File):
            files = value if isinstance(value, list) else [value]
            if len(files) > MAX_PICTURES:
                raise InputError("too_many_files", limit=MAX_PICTURES)
            return [self._file(file) for file in files]
        if isinstance(value, str):
            limit = getattr(block, "max_length", None) or MAX_TEXT
            if len(value) > limit:
                raise InputError("text_too_long", limit=limit)
            if any("\ud800" <= letter <= "\udfff" for letter in value):  # half a character, as JSON may hold
                raise InputError("no_text")
            return value
        if isinstance(block, gr.Dataset) and isinstance(value, int) and 0 <= value < len(block.samples or []):
            return value  # the number of an example
        raise InputError("no_text")

    def _file(self, value: Any) -> dict[str, Any]:
        """An upload of this page as Gradio's file object; nothing else that a client says of it is kept."""
        place = (value.get("path") or value.get("url")) if isinstance(value, dict) else None
        if not isinstance(place, str):
            raise InputError("no_file")
        path = unquote(place.split(_OWN_ADDRESS, 1)[1]) if _OWN_ADDRESS in place else place
        if not self.has_stored(path):
            raise InputError("no_addresses" if "://" in path else "gone")
        name = value.get("orig_name")
        return {
            "path": path,
            "orig_name": name if isinstance(name, str) and name else Path(path).name,
            "meta": _META,
        }


__all__ = ["GuardedBlocks", "InputError"]
