"""What was looked for in a file, and which generators could have shown themselves by it.

That nothing was found proves nothing: the next site or messenger removes all of it, and not every generator writes it.
The names are those of programs that are known to write a mark, in part from their documentation and the press and not
from files that were seen here; no list of them is complete.
"""

from dataclasses import dataclass

from ..sentences import sentence
from .evidence import Evidence

# By a kind's code in the topic "marks": how the codes of its findings begin, and who writes it.
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "credentials": (
        ("credentials_", "signed_"),
        ("OpenAI", "Google", "Adobe Firefly", "Microsoft", "Black Forest Labs", "Stability AI"),
    ),
    "labels": (("stated_",), ("Google", "Meta AI", "Midjourney", "OpenAI", "Adobe Firefly")),
    "settings": (
        ("generator", "prompt"),
        (
            "Stable Diffusion web UI",
            "ComfyUI",
            "InvokeAI",
            "Fooocus",
            "SwarmUI",
            "Easy Diffusion",
            "Draw Things",
            "NovelAI",
            "Midjourney",
            "FLUX",
            "Qwen",
            "Grok",
            "Google AI",
        ),
    ),
    "hidden_settings": (("hidden_",), ("NovelAI", "Stable Diffusion web UI", "ComfyUI")),
    "aigc": (("aigc",), ("Doubao", "Jimeng", "Qwen", "Hunyuan", "Kling")),
}
# An invisible watermark that only its owners can read: who embeds it, and where each reads their own.
SYNTHID_GENERATORS = ("Google (Gemini, Imagen)", "OpenAI (ChatGPT, GPT Image)", "Kakao")
SYNTHID_CHECKS = {"Google": "https://gemini.google.com/", "OpenAI": "https://openai.com/research/verify"}


@dataclass(frozen=True)
class Searched:
    """A kind of mark that was looked for.

    Attributes:
        code: the kind.
        found: whether the file bears one.
        generators: who could have shown themselves by it, among others.
    """

    code: str
    found: bool
    generators: tuple[str, ...]

    def sentence(self, language: str = "en") -> str:
        """The kind in words, with its generators."""
        return sentence("marks", self.code, language, generators=", ".join(self.generators))


def searched(evidence: tuple[Evidence, ...]) -> tuple[Searched, ...]:
    """All kinds that are looked for, and whether findings of each are there."""
    return tuple(
        Searched(code, any(item.code.startswith(beginnings) for item in evidence), generators)
        for code, (beginnings, generators) in _KINDS.items()
    )


__all__ = ["SYNTHID_CHECKS", "SYNTHID_GENERATORS", "Searched", "searched"]
