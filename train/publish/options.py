"""Options of `python -m train export`, `publish` and `publish-space`."""

from dataclasses import dataclass, field


@dataclass
class ExportArguments:
    """What to export, and where."""

    checkpoint: str = field(metadata={"help": "Folder of a checkpoint, a Hub id, or `default`."})
    output: str = field(metadata={"help": "Folder to write into; the checkpoint's own, so that `publish` takes it."})
    format: str = field(
        default="onnx",
        metadata={
            "help": "onnx (model.onnx) or openvino (model.xml and model.bin). Input "
            "pixel_values from the checkpoint's processor; outputs logits, score and image_embeds."
        },
    )


@dataclass
class PublishArguments:
    """What to publish, and where."""

    checkpoint: str = field(metadata={"help": "Folder of a checkpoint, or `default` for the embedded default."})
    repo_id: str = field(metadata={"help": "owner/name on the Hub; made if it is not there."})
    public: bool = field(default=False, metadata={"help": "For everybody; otherwise a new repository is private."})
    onnx: bool = field(
        default=False,
        metadata={
            "help": "Also model.onnx, for ONNX Runtime. What `export` wrote into the folder is always published."
        },
    )


@dataclass
class PublishSpaceArguments:
    """Where the page goes, and which model it serves."""

    repo_id: str = field(metadata={"help": "owner/name of the Space; made if it is not there."})
    model: str = field(
        default="default",
        metadata={"help": "owner/name of a published model; the embedded default otherwise. Set as MODEL_ID."},
    )
    public: bool = field(default=False, metadata={"help": "For everybody; otherwise a new Space is private."})


__all__ = ["ExportArguments", "PublishArguments", "PublishSpaceArguments"]
