"""Small files of the true schemas of public data sets, from their cards; see docs/data-sets.md."""

import os

import datasets

from tests.pictures import picture

ELSA_D3 = datasets.Features(
    {
        **{name: datasets.Value("string") for name in ("id", "original_prompt", "positive_prompt", "negative_prompt")},
        "url": datasets.Value("string"),
        **{f"model_gen{i}": datasets.Value("string") for i in range(4)},
        **{f"{name}_gen{i}": datasets.Value("int64") for name in ("width", "height") for i in range(4)},
        **{f"num_inference_steps_gen{i}": datasets.Value("int64") for i in range(4)},
        **{f"filepath_gen{i}": datasets.Value("string") for i in range(4)},
        **{f"image_gen{i}": datasets.Image() for i in range(4)},
    }
)
OPENFAKE = datasets.Features(
    {
        "image": datasets.Image(),
        **{name: datasets.Value("string") for name in ("prompt", "label", "model", "type", "release_date")},
    }
)
GENERATORS = ["DeepFloyd/IF", "SD1.4", "SD2.1", "SDXL"]


def write_parquet(path, columns, features=None):
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return str(path)


def encoded(seed, label=0):
    return {"bytes": picture(seed, label), "path": None}


def write_elsa_d3(folder, url):
    """Three rows; the real picture of the second is gone from `url` and that of the third has no address."""
    rows = 3
    columns = {
        "id": [f"r{i}" for i in range(rows)],
        "original_prompt": [f"a photo of {i}" for i in range(rows)],
        "positive_prompt": [f"a photo of {i}, best quality" for i in range(rows)],
        "negative_prompt": ["blurry"] * rows,
        "url": [f"{url}/picture-0", f"{url}/gone", None],
    }
    for i, generator in enumerate(GENERATORS):
        columns |= {f"model_gen{i}": [generator] * rows, f"filepath_gen{i}": [f"{i}.png"] * rows}
        columns |= {f"width_gen{i}": [48] * rows, f"height_gen{i}": [40] * rows}
        columns |= {f"num_inference_steps_gen{i}": [30] * rows}
        columns |= {f"image_gen{i}": [encoded(10 * i + row, 1) for row in range(rows)]}
    return write_parquet(folder / "validation-00000-of-00001.parquet", columns, ELSA_D3)


def write_openfake(folder):
    """One picture of each kind."""
    columns = {
        "image": [encoded(0), encoded(1, 1), encoded(2, 1)],
        "prompt": ["a caption", "a prompt", "another"],
        "label": ["real", "fake", "fake"],
        "model": ["pexels", "flux.1-dev", "gpt-image-1"],
        "type": ["real", "base", "image"],
        "release_date": [None, "2024-08", "2025-04"],
    }
    return write_parquet(folder / "test-00000-of-00001.parquet", columns, OPENFAKE)


def lock_folder(folder):
    """Put a folder below this one that nobody can list: its path is too long. A test may run as root."""
    deepest = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(255 * "d", dir_fd=deepest)
        parent, deepest = deepest, os.open(255 * "d", os.O_RDONLY, dir_fd=deepest)
        os.close(parent)
    os.close(deepest)
