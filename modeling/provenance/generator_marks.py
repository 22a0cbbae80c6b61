"""Marks that image generators leave in a file: settings they store, and names they sign with.

Settings stand in text chunks, in comments, in EXIF and XMP, or in the lowest bits of the pixels. A tool and, where it
is stated, a model are named. The prompt is its author's private text: that one is there is said, it is never shown.
All of this is unsigned; anybody can add or remove it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..file_metadata import (
    ARTIST,
    DESCRIPTION,
    MAKE,
    MODEL,
    PROCESSING_SOFTWARE,
    SOFTWARE,
    USER_COMMENT,
    XP_COMMENT,
    FileMetadata,
)
from .evidence import Evidence, clean

# How the Software field of FLUX's and Qwen's own programs begins; maker and model stand where a camera writes its own.
AI_GENERATED = re.compile(r"ai generated", re.IGNORECASE)
EDITED_WITH = re.compile(r"edited (with|by|using) |(?=apple photos clean up)", re.IGNORECASE)
# Looked for in what a program writes about itself (Software, CreatorTool, Credit, Make), never in free text: a caption
# may name anything.
_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"novelai", "NovelAI"),
        (r"midjourney", "Midjourney"),
        (r"dall[-·. ]?e\b|openai|chatgpt|gpt-image", "OpenAI"),
        (r"firefly", "Adobe Firefly"),
        (r"google ai\b|gemini|\bimagen \d", "Google AI"),
        (r"draw things", "Draw Things"),
        (r"dreamstudio", "DreamStudio"),
        (r"stability\.?ai|stability ai", "Stability AI"),
        (r"invokeai|invoke ai", "InvokeAI"),
        (r"comfyui", "ComfyUI"),
        (r"ruinedfooocus|fooocus", "Fooocus"),
        (r"swarmui", "SwarmUI"),
        (r"easy diffusion", "Easy Diffusion"),
        (r"diffusionbee", "DiffusionBee"),
        (r"mochi diffusion", "Mochi Diffusion"),
        (r"automatic1111|stable[- ]diffusion[- ]webui|sd\.next", "Stable Diffusion web UI"),
        (r"black forest labs", "Black Forest Labs"),
        (r"bing image creator|microsoft designer", "Microsoft"),
        (r"leonardo\.?ai|leonardo ai", "Leonardo AI"),
        (r"ideogram", "Ideogram"),
        (r"imagined with ai|\bmeta ai\b", "Meta AI"),
        (r"\bgrok\b", "Grok"),
        (r"recraft", "Recraft"),
        (r"doubao|豆包|jimeng|即梦|dreamina|seedream", "ByteDance (Doubao, Jimeng)"),
        (r"\bqwen|通义", "Qwen"),
        (r"hunyuan|混元", "Hunyuan"),
        (r"stable ?diffusion", "Stable Diffusion"),
    )
)
MAX_SETTINGS = 20_000  # characters; the web UI's line of settings has a few hundred
_MIDJOURNEY_JOB = re.compile(r"\bJob ID: [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WEBUI_SETTINGS = re.compile(r"\bSteps: \d{1,5}, [^\n]{0,400}?\bSampler: ")


@dataclass(frozen=True)
class Mark:
    """A generator that left its mark: its name, the model's name or "", and whether a prompt is stored."""

    tool: str
    model: str = ""
    has_prompt: bool = False


def generator_evidence(metadata: FileMetadata, hidden: str | None = None) -> list[Evidence]:
    """The generators whose marks a file bears, each once, and whether a prompt is stored.

    Args:
        metadata: the words in the file.
        hidden: those in its pixels; `None` if there are none.
    """
    marks: dict[str, Mark] = {}
    for mark in (*_stored_settings(metadata), *_settings_text(hidden or ""), *_names(metadata)):
        known = marks.setdefault(mark.tool, mark)
        marks[mark.tool] = Mark(mark.tool, known.model or mark.model, known.has_prompt or mark.has_prompt)
    evidence = []
    for mark in marks.values():
        values = {"tool": mark.tool} | ({"model": mark.model} if mark.model else {})
        code = "generator_model" if mark.model else "generator"
        evidence.append(Evidence(code, values, "generated", "moderate"))
    if hidden is not None:
        evidence.append(Evidence("hidden_settings", {}, "generated", "moderate"))
    has_prompt = any(metadata.xmp_value(name) for name in ("AIPromptInformation", "AIPromptWriterName"))
    if has_prompt or any(mark.has_prompt for mark in marks.values()):
        evidence.append(Evidence("prompt", {}, "generated", "weak"))
    return evidence


def generator_name(text: str) -> str:
    """The generator that a program's name stands for, "" if it is none that we know."""
    return next((name for pattern, name in _NAMES if pattern.search(text[:400])), "")


def _names(metadata: FileMetadata) -> Iterator[Mark]:
    """Generators by the name that they give themselves."""
    exif = metadata.exif
    software = exif.get(SOFTWARE, "")
    if AI_GENERATED.match(software):
        yield Mark(clean(exif.get(MAKE)) or clean(software), clean(exif.get(MODEL)), DESCRIPTION in exif)
    if _UUID.fullmatch(exif.get(ARTIST, "")) and exif.get(DESCRIPTION, "").startswith("Signature:"):
        yield Mark("Grok")
    if system := clean(metadata.xmp_value("AISystemUsed")):  # IPTC 2025.1
        yield Mark(generator_name(system) or system, clean(metadata.xmp_value("AISystemVersionUsed")))
    fields = (
        software,
        exif.get(MAKE, ""),
        exif.get(PROCESSING_SOFTWARE, ""),
        metadata.texts.get("Software", ""),
        metadata.credit,
        metadata.xmp_value("CreatorTool"),
        metadata.xmp_value("Credit"),
    )
    for text in fields:
        if not EDITED_WITH.match(text) and (name := generator_name(text)):
            yield Mark(name)


def _stored_settings(metadata: FileMetadata) -> Iterator[Mark]:
    """Generators by the settings that they store."""
    texts = metadata.texts
    if texts.get("Software") == "NovelAI":
        yield Mark("NovelAI", clean(texts.get("Source", "")), "Description" in texts or "Comment" in texts)
    for key in ("invokeai_metadata", "sd-metadata", "Dream", "invokeai_graph"):
        if text := texts.get(key):
            model = _json_name(text, "model_name", "model_weights") or _json_name(_after(text, '"model"'), "name")
            yield Mark("InvokeAI", model, "prompt" in text or key == "Dream")
    if texts.get("fooocus_scheme"):
        yield _fooocus(texts.get("parameters", ""))
    if "use_stable_diffusion_model" in texts or "Stable Diffusion model" in texts:
        model = texts.get("use_stable_diffusion_model") or texts.get("Stable Diffusion model", "")
        yield Mark("Easy Diffusion", _file_name(model), "prompt" in texts or "Prompt" in texts)
    descriptions = [
        texts.get("Description", ""),
        metadata.exif.get(DESCRIPTION, ""),
        metadata.xmp_value("description"),
    ]
    if any(_MIDJOURNEY_JOB.search(text) for text in descriptions):
        yield Mark("Midjourney", has_prompt=True)
    if metadata.xmp_value("CreatorTool") == "Draw Things":
        settings = metadata.xmp_value("UserComment")
        yield Mark("Draw Things", _json_name(settings, "model"), bool(settings))
    candidates = [texts.get(key, "") for key in ("parameters", "prompt", "workflow", "Comment", "generation_data")]
    candidates += metadata.comments
    candidates += [metadata.exif.get(tag, "") for tag in (USER_COMMENT, XP_COMMENT, DESCRIPTION, MAKE, MODEL)]
    candidates += [metadata.xmp_value(name) for name in ("UserComment", "description", "parameters", "prompt")]
    for text in candidates:
        yield from _settings_text(text)


def _settings_text(text: str) -> Iterator[Mark]:
    """The generator that wrote one text, by what only its settings have."""
    if "sui_image_params" in text:
        yield Mark("SwarmUI", _json_name(text, "model"), '"prompt"' in text)
    elif '"class_type"' in text or ('"nodes"' in text and '"links"' in text):
        yield Mark("ComfyUI", _json_name(text, "ckpt_name", "unet_name"), "CLIPTextEncode" in text or '"text"' in text)
    elif '"base_model"' in text and '"prompt"' in text:
        yield _fooocus(text)
    elif '"use_stable_diffusion_model"' in text:
        yield Mark("Easy Diffusion", _json_name(text, "use_stable_diffusion_model"), '"prompt"' in text)
    elif re.search(r'"(v4_prompt|noise_schedule|uncond_scale)\\?"', text):  # in a JPEG as JSON within JSON
        yield Mark("NovelAI", _json_name(text, "Source"), "prompt" in text)
    elif found := _WEBUI_SETTINGS.search(text[-MAX_SETTINGS:]):
        # The line of settings follows the prompts, which may hold anything.
        settings = text[text.rfind("Steps: ") :][:MAX_SETTINGS]
        model = re.search(r"[,\n] ?Model: ([^,\n]{1,200})", settings)
        yield Mark(
            "Stable Diffusion web UI",
            _file_name(model[1]) if model else "",
            len(text) > MAX_SETTINGS or found.start() > 0,
        )


def _fooocus(text: str) -> Mark:
    model = re.search(r"[,\n] ?(?:Model|Base Model): ([^,\n]{1,200})", text[text.rfind("Steps: ") :][:MAX_SETTINGS])
    name = _json_name(text, "base_model") or (_file_name(model[1]) if model else "")
    return Mark("Fooocus", name, bool(text))


def _json_name(text: str, *keys: str) -> str:
    """The first string of one of `keys` in JSON text, without parsing it: it may be cut, huge or deeply nested."""
    for key in keys:
        if found := re.search(rf'"{key}"\s{{0,9}}:\s{{0,9}}"([^"]{{1,300}})"', text):
            return _file_name(found[1])
    return ""


def _after(text: str, mark: str) -> str:
    return text[text.find(mark) :] if mark in text else ""


def _file_name(path: str) -> str:
    """A model's name without its folders, which tell about somebody's computer."""
    return clean(re.split(r"[/\\]", path)[-1])


__all__ = ["AI_GENERATED", "EDITED_WITH", "generator_evidence", "generator_name"]
