"""What a client may name: an upload, never a web address.

Gradio 6.31 would download a public address on the server before any handler is called.
"""

from typing import Any

import gradio as gr

from modeling.sentences import sentence


class GuardedBlocks(gr.Blocks):
    """Blocks that open no web address that a client sends in the place of an upload."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Refuse addresses, then go on as Gradio does."""
        if has_address(inputs):
            raise gr.Error(sentence("page", "no_addresses"), print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def has_address(data: Any) -> bool:
    """Whether a web address stands anywhere in the place of a file."""
    if isinstance(data, dict):
        places = [data.get("path"), data.get("url") if not data.get("path") else None]
        if any(isinstance(place, str) and "://" in place for place in places):
            return True
        return any(has_address(value) for value in data.values())
    return isinstance(data, list) and any(has_address(value) for value in data)


__all__ = ["GuardedBlocks", "has_address"]
