"""What others can do with a published folder, without this project: three doors, one verdict.

    python third_party.py FOLDER PICTURE...

FOLDER holds what `python -m train publish` puts on the Hub, with model.onnx. Needs transformers, torch, Pillow and
onnxruntime. Prints one JSON line a picture: P(generated) by each door, and the verdict.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline


def main(folder: str, pictures: list[str]) -> None:
    """Judge the pictures by every door."""
    config = json.loads((Path(folder) / "config.json").read_text())
    # The code that comes with the weights is run: read it first, or trust who published it.
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    classify = pipeline("image-classification", model=folder, trust_remote_code=True)
    graph = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    for name in pictures:
        picture = Image.open(name)
        inputs = processor(images=picture, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits
        (graph_logits,) = graph.run(["logits"], {"pixel_values": inputs["pixel_values"].numpy()})
        exponents = np.exp(graph_logits[0] - graph_logits[0].max())
        probabilities = {
            "pipeline": {answer["label"]: answer["score"] for answer in classify(picture)}["generated"],
            "AutoModel": logits.softmax(-1)[0, 1].item(),
            "ONNX Runtime": float(exponents[1] / exponents.sum()),
        }
        verdicts = {door: verdict(probability, config) for door, probability in probabilities.items()}
        print(json.dumps({"picture": name, "probabilities": probabilities, "verdicts": verdicts}))


def verdict(probability: float, config: dict) -> str:
    """The folder's own thresholds decide."""
    thresholds = config.get("without_text") or config  # where it reads text too, a picture alone has its own
    if probability >= thresholds.get("generated_threshold", 0.5):
        return "generated"
    return "real" if probability <= thresholds.get("real_threshold", 0.5) else "uncertain"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("Expected FOLDER PICTURE...")
    main(sys.argv[1], sys.argv[2:])
