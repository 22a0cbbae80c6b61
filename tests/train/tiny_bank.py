"""A bank of made-up embeddings."""

import numpy as np
import pandas as pd
import pyarrow as pa

from modeling import RobustClipForImageClassification
from modeling.checkpoints import load_processor
from modeling.files import write_json
from train.features.backbone import processor_settings, weights_fingerprint
from train.features.bank import STANDARD_VIEW, FeatureBank, write_tables
from train.features.file_facts import FACTS, HASH_SIDE

PICTURES, VIEWS, WIDTH = 240, 2, 8


def write_bank(folder, backbone, *, text, deliveries=()):
    """Half real of 6 sources, half generated of 5; one source has both. Captions repeat across classes."""
    rng = np.random.default_rng(0)
    label = np.arange(PICTURES) % 2
    source = np.where(label == 0, np.arange(PICTURES) // 2 % 6, 5 + np.arange(PICTURES) // 2 % 5)
    rows = pd.DataFrame(
        {
            "record_id": [f"p{i}" for i in range(PICTURES)],
            "label": label,
            "generator": np.where(label == 1, "G", ""),
            "source": [f"s{k}" for k in source],
            "style": "",
            "family": np.where(label == 1, "G", ""),
            "kind": np.where(np.arange(PICTURES) % 3, "people", "animal"),
            "kind_by": "seen",
            "date": "",
            **dict.fromkeys((field.name for field in FACTS), None),
        }
    )
    rows["perceptual_hash"] = [rng.bytes(HASH_SIDE**2 // 8).hex() for _ in range(PICTURES)]
    view = [*range(VIEWS), *[STANDARD_VIEW] * len(deliveries)]
    delivery = [*["clean"] * VIEWS, *deliveries]
    rows = rows.loc[rows.index.repeat(len(view))]
    rows = rows.assign(view=np.tile(view, PICTURES), delivery=np.tile(delivery, PICTURES))
    centre = rng.normal(size=(11, WIDTH))[np.repeat(source, len(view))]
    image = 0.5 * centre + rng.normal(size=(len(rows), WIDTH)) + rows["label"].to_numpy()[:, None]
    table = pa.Table.from_pandas(rows, preserve_index=False)
    columns = {"image_embeds": image}
    if text:
        captions = rng.normal(size=(9, WIDTH))
        captions[0] = 0  # no caption
        of_picture = rng.integers(6, size=PICTURES) + 3 * label * (rng.random(PICTURES) < 0.5)
        columns["text_embeds"] = captions[np.repeat(of_picture, len(view))]
    folder.mkdir()
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values.astype(np.float32))
    write_tables(folder / "rows.arrow", table.schema, [table])
    info = {"backbone": str(backbone), "fingerprint": f"tiny {text}", "backbone_sha256": "0", "unreadable": []}
    info |= {"records": PICTURES, "records_sha256": "0", "views": VIEWS, "probed": 0, "seed": 0}
    info["deliveries"] = list(deliveries)
    write_json(folder / "bank.json", info)
    return folder


def write_bank_to_fit(folder, backbone, embeds_of=None, change=None):
    """The same for `fit`: as if this backbone had made it, with other embeddings or rows where they are given.

    Args:
        folder: of the bank.
        backbone: folder of a tiny one without text.
        embeds_of: (rows, embeddings) -> embeddings.
        change: rows -> rows.
    """
    write_bank(folder, backbone, text=False)
    bank = FeatureBank.load(folder)
    rows = bank.rows.assign(format="JPEG", width=64, height=48, file_bytes=999, jpeg_quality=90.0, metadata="")
    rows = rows if change is None else change(rows)
    if embeds_of is not None:
        np.save(folder / "image_embeds.npy", embeds_of(rows, bank.image_embeds.numpy().copy()).astype(np.float32))
    table = pa.Table.from_pandas(rows, preserve_index=False)
    write_tables(folder / "rows.arrow", table.schema, [table])
    model = RobustClipForImageClassification.from_backbone(str(backbone), use_text=False)
    made = {
        "backbone_sha256": weights_fingerprint(model.backbone),
        "processor": processor_settings(load_processor(str(backbone))),
    }
    write_json(folder / "bank.json", bank.info | made)
    return folder
