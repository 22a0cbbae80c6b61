"""Judge a folder of pictures on a Ray cluster, with the `pipeline` of transformers.

    pip install -e ".[ray]"
    python docs/ray_scoring.py pictures/ scores/ --workers 8

Without a cluster it starts Ray on this machine. Every worker needs this project and the checkpoint: name one by its
Hub id or by a folder that all of them see. A file that cannot be read gets its error in place of a probability.
"""

import argparse
from typing import Any

import ray
from transformers import pipeline

import modeling  # noqa: F401 (registers the classes: no remote code is needed)
from modeling.checkpoints import resolve_checkpoint
from modeling.images import ImageError, open_image


class Classify:
    """One worker: loads the checkpoint once and judges batch after batch."""

    def __init__(self, model: str) -> None:
        self.classify = pipeline("image-classification", model=resolve_checkpoint(model), trust_remote_code=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Probabilities of "generated" for a batch of files."""
        pictures, errors = [], []
        for content in batch["bytes"]:
            try:
                # Our own loader, as everywhere: the pipeline's would see 16-bit and transparent pictures differently.
                pictures.append(open_image(content))
                errors.append(None)
            except ImageError as error:
                errors.append(str(error))
        answers = iter(self.classify(pictures, batch_size=16) if pictures else [])
        return {
            "path": list(batch["path"]),
            "probability": [
                next(label["score"] for label in next(answers) if label["label"] == "generated")
                if error is None
                else float("nan")
                for error in errors
            ],
            "error": [error or "" for error in errors],
        }


def score_folder(folder: str, output: str, *, model: str = "default", workers: int = 1) -> None:
    """Write Parquet files with path, probability and error of every file below a folder.

    Args:
        folder: local, on a shared file system, or s3://... and the like.
        output: folder of the Parquet files.
        model: Hub id or folder of a checkpoint; the embedded default.
        workers: processes that judge; on a cluster with GPUs pass `num_gpus=1` to `map_batches` too.
    """
    ray.data.read_binary_files(folder, include_paths=True).map_batches(
        Classify,
        fn_constructor_kwargs={"model": model},
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        batch_size=64,
    ).write_parquet(output)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--model", default="default")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    ray.init()
    score_folder(arguments.folder, arguments.output, model=arguments.model, workers=arguments.workers)


if __name__ == "__main__":
    main()
