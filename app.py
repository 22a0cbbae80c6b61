"""The Space: load a detector, build the page, launch. No model code and no file parsing here.

From the environment: HOST and PORT (127.0.0.1:7860), MODEL_ID (a folder or a Hub id; the embedded default otherwise),
BACKEND (what scores pictures: torch, onnx, openvino, or auto for the fastest of them; torch otherwise),
MCP_SERVER=1 (also serve the endpoints as tools of the Model Context Protocol), OPEN_BROWSER=1.
"""

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from command_line import clear_errors, log_to_stderr, sentence_of

with clear_errors():  # what is not installed, or damaged, is a sentence too
    from space.sweeper import PageFolder, own_uploads

    # Read by gradio when it is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ["GRADIO_TEMP_DIR"] = own_uploads()

    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import BaseRoute, Route

    from modeling.backends import TORCH, check_backend
    from modeling.checkpoints import resolve_checkpoint
    from modeling.detector import Detector
    from modeling.hub import optional_file
    from space.address import listening_address
    from space.doors import application_options
    from space.language import interface_texts
    from space.page import build_page
    from space.serving import serve
    from space.theme import ICON, STYLE, page_theme


@contextmanager
def _named(setting: str, value: str | None) -> Iterator[None]:
    """Say in an error which setting of the environment it comes from."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if not value:
            raise
        raise ValueError(f"{setting}={value} cannot be used. {sentence_of(error)}") from error


@clear_errors()
def main() -> None:
    """Load the detector, then serve the page until SIGINT or SIGTERM; what is under way is answered first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the page is there: stop in order, as by Ctrl+C
    log_to_stderr("INFO", "%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with_mcp = os.environ.get("MCP_SERVER") == "1"
    if with_mcp and importlib.util.find_spec("mcp") is None:
        sys.exit("MCP_SERVER=1 needs one more package: pip install 'gradio[mcp]'.")
    host, port = listening_address()
    backend = os.environ.get("BACKEND") or TORCH
    with _named("BACKEND", backend):
        check_backend(backend)
    model = os.environ.get("MODEL_ID")
    with _named("MODEL_ID", model):
        checkpoint = resolve_checkpoint(model)
        detector = Detector.from_pretrained(checkpoint, backend=backend)
    print(f"Opening the page on http://{host}:{port}", flush=True)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "status": "ok",
                "model": detector.name,
                "model_version": detector.version,
                "corrections": detector.corrections,
                "backend": detector.backend,
            }
        )

    with PageFolder(os.environ["GRADIO_TEMP_DIR"]) as folder:
        page = build_page(detector, optional_file(checkpoint, "README.md"), is_default=model in (None, "", "default"))
        routes: list[BaseRoute] = [Route("/health", health)]
        lifespan = None
        if with_mcp:
            from space.tools import Tools  # its package is an extra

            tools = Tools(page, reads_captions=detector.reads_captions)
            routes += tools.routes()
            lifespan = tools.lifespan
        serve(
            page,
            folder,
            application_options(page, routes, lifespan),
            server_name=host,
            server_port=port,
            max_file_size="1gb",  # of a zip archive; a picture's own limit is `modeling.images.MAX_BYTES`
            run_history=False,
            footer_links=["api"],
            theme=page_theme(),
            css_paths=STYLE,
            favicon_path=ICON,
            i18n=interface_texts(detector),
            mcp_server=False,  # Gradio's own; ours is `space/tools.py`
            inbrowser=os.environ.get("OPEN_BROWSER") == "1",
        )


if __name__ == "__main__":
    main()
