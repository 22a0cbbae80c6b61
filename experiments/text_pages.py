"""Pages of text and charts told from all others by a line in the backbone's embedding: fitted, judged, written.

    python experiments/text_pages.py BANK [BANK ...] --rendered FOLDER [--each N] [--write]

BANK is a feature bank of the default backbone over the development set. text_pages.csv names its real pictures that
are pages or charts, as seen by eye; those that could be called either are left out. FOLDER keeps the embeddings of the
pages that page_ways.py makes, N of every kind for the fit and half as many others, sent in the hardest standard
ways, for judgement alone. Ten groups of sources are held out in turn; a kind of rendered page is a source, and the
threshold comes from the pictures outside the group. --write stores the line for the product.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from page_ways import delivered, rendered
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from modeling.cautions.known_data import backbone_of
from modeling.cautions.pages import PageProbe
from modeling.detector import Detector
from train.features.bank import FeatureBank
from train.jobs.commit import git_commit
from train.measure.bootstrap import share_with_interval
from train.report.markdown import table

SEEN = Path(__file__).with_suffix(".csv")
FOLDS, INNER_FOLDS = 10, 3
C = 100.0
# The regression's own boundary, or a higher one that so many of the other pictures of held-out sources pass.
MOST_PASSED = 0.003


def main() -> None:
    """Embed what is missing, judge, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("banks", nargs="+")
    parser.add_argument("--rendered", type=Path, required=True)
    parser.add_argument("--each", type=int, default=14)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    detector = Detector.from_pretrained()
    rows, embeds = read_banks(arguments.banks, detector)
    for name, make, each in (("rendered", rendered, arguments.each), ("delivered", delivered, arguments.each // 2)):
        more, more_embeds = embedded(arguments.rendered / f"{name}.npz", name, make, each, detector)
        rows, embeds = pd.concat([rows, more], ignore_index=True), np.concatenate([embeds, more_embeds])
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    made_from = describe(rows, arguments.banks)
    print(", ".join(f"{name} {value}" for name, value in made_from.items()) + f", commit {git_commit()}\n")
    flagged = held_out(rows, embeds)
    print(table(["pictures of sources held out", "number", "sources", "called pages", "95 %"], shares(rows, flagged)))
    print_worst(rows, flagged)
    print_cost(detector)
    if arguments.write:
        weights, threshold = fit(embeds, rows)
        config = detector.model.config
        PageProbe(torch.tensor(weights), threshold, backbone_of(config), detector.processor.size, made_from).save()


def read_banks(folders: list[str], detector: Detector) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of clean and random views of all banks with `what` they show, and their embeddings (N, D)."""
    seen = pd.read_csv(SEEN).set_index("id")["what"]
    parts, embeds = [], []
    for folder in folders:
        bank = FeatureBank.load(folder)
        bank.check_made_by(detector.model.backbone, detector.processor)
        kept = (bank.rows["view"] >= 0).to_numpy()
        parts.append(bank.rows[kept])
        embeds.append(bank.image_embeds[torch.from_numpy(np.flatnonzero(kept)), : detector.model.config.embedding_dim])
    rows = pd.concat(parts, ignore_index=True)
    rows["what"] = rows["record_id"].map(seen).fillna("other")
    rows["way"] = np.where(rows["view"] == 0, "as in the set", "delivered")
    known = (rows["what"] != "unclear").to_numpy()
    return rows[known].reset_index(drop=True), torch.cat(embeds).numpy()[known]


def embedded(
    file: Path, name: str, make: Callable[[int], Iterator[tuple[str, str, Image.Image]]], each: int, detector: Detector
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows and embeddings of pages drawn here; those that the file holds already are not drawn again."""
    if not file.exists():
        kinds, ways, found = [], [], []
        for kind, way, picture in tqdm(make(each), unit="page"):
            with torch.inference_mode():
                outputs = detector.model(**detector.processor(images=[picture], return_tensors="pt"))
            found.append(outputs.image_embeds[0, : detector.model.config.embedding_dim].numpy())
            kinds.append(kind)
            ways.append(way)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, embeds=np.stack(found), kind=kinds, way=ways)
    stored = np.load(file)
    kind = pd.Series(stored["kind"])
    rows = pd.DataFrame(
        {
            "record_id": [f"{name}-{number}" for number in range(len(kind))],
            "what": np.where(kind.str.endswith(("chart", "diagram")), "chart", "page"),
            "way": stored["way"],
            "source": "rendered: " + kind,
            "label": 0,
            "view": 0 if name == "rendered" else -1,
        }
    )
    return rows, stored["embeds"]


def describe(rows: pd.DataFrame, banks: list[str]) -> dict[str, str]:
    """What was fitted on, when and by which code."""
    clean = rows[rows["view"] == 0]
    drawn = clean["source"].str.startswith("rendered: ")
    other, generated = clean["what"] == "other", clean["label"] == 1
    return {
        "date": datetime.date.today().isoformat(),
        "records": ", ".join(FeatureBank.load(bank).info["records_sha256"][:12] for bank in banks),
        "real": str(int((other & ~generated).sum())),
        "generated": str(int(generated.sum())),
        "pages": str(int((~other & ~drawn).sum())),
        "rendered": str(int(drawn.sum())),
    }


def held_out(rows: pd.DataFrame, embeds: np.ndarray) -> np.ndarray:
    """Whether each picture (N,) passes the threshold of a line that was fitted without its source."""
    flagged = np.zeros(len(rows), dtype=bool)
    groups = list(GroupKFold(FOLDS).split(embeds, groups=rows["source"]))
    for outside, inside in tqdm(groups, unit="group"):
        weights, threshold = fit(embeds[outside], rows.iloc[outside])
        flagged[inside] = embeds[inside] @ weights > threshold
    return flagged


def fit(embeds: np.ndarray, rows: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Weights (D,) and threshold; of generated pictures, and of pages for judgement alone, nothing is learned."""
    used = ((rows["label"] == 0) & (rows["view"] >= 0)).to_numpy()
    embeds, rows = embeds[used], rows[used]
    pages = (rows["what"] != "other").to_numpy()
    margins = np.empty(len(rows))
    for outside, inside in GroupKFold(INNER_FOLDS).split(embeds, groups=rows["source"]):
        margins[inside] = line(embeds[outside], pages[outside]).decision_function(embeds[inside])
    passed = float(np.quantile(margins[~pages], 1 - MOST_PASSED))
    fitted = line(embeds, pages)
    return fitted.coef_[0].astype(np.float32), max(0.0, passed) - float(fitted.intercept_[0])


def line(embeds: np.ndarray, pages: np.ndarray) -> LogisticRegression:
    """A logistic regression that gives pages and others the same weight in all."""
    return LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit(embeds, pages)


def shares(rows: pd.DataFrame, flagged: np.ndarray) -> list[list[str]]:
    """Lines of the table: what must not be found, then what must."""
    drawn = rows["source"].str.startswith("rendered: ")
    other, real = rows["what"] == "other", rows["label"] == 0
    clean = (rows["view"] == 0) & ~drawn
    groups = {
        "real, neither page nor chart": other & real & clean,
        "real, neither page nor chart, delivered": other & real & (rows["view"] > 0),
        "generated": ~real & clean,
        "real pages and charts": ~other & clean,
        "real pages and charts, delivered": ~other & ~drawn & (rows["view"] > 0),
    }
    fitted, judged = drawn & (rows["view"] == 0), drawn & (rows["view"] < 0)
    for what in ("page", "chart"):
        of_kind = rows["what"] == what
        for way in rows.loc[fitted, "way"].unique():
            groups[f"rendered {what}s, {way}"] = fitted & of_kind & (rows["way"] == way)
        groups[f"other rendered {what}s, sent in the hardest ways"] = judged & of_kind
    lines = []
    for name, chosen in groups.items():
        if chosen.any():
            share, (low, high) = share_with_interval(rows[chosen], flagged[chosen.to_numpy()])
            found = int(flagged[chosen.to_numpy()].sum())
            lines.append(
                [name, f"{chosen.sum():,}", str(rows.loc[chosen, "source"].nunique())]
                + [f"{found} ({100 * share:.1f} %)", f"{100 * low:.1f} to {100 * high:.1f} %"]
            )
    return lines


def print_worst(rows: pd.DataFrame, flagged: np.ndarray) -> None:
    """Which pictures of the set were called pages though they are none, and which pages were not found."""
    other, clean = rows["what"] == "other", rows["view"] == 0
    for name, wrong in (("called pages", other & flagged & clean), ("not found", ~other & ~flagged & clean)):
        pictures = ", ".join(f"{row.record_id} ({row.source})" for row in rows[wrong].itertuples())
        print(f"\n{name}: {pictures or 'none'}")


def print_cost(detector: Detector) -> None:
    """What asking takes, beside the verdict about one picture in the same run."""
    prepared = detector.processor(images=[Image.new("RGB", (224, 224))], return_tensors="pt")["pixel_values"]
    probe = PageProbe(torch.ones(detector.model.config.embedding_dim), 0.5, ("", ""), 0, {})
    embedding, scored, asked = None, [], []
    for _ in range(5):
        start = time.perf_counter()
        embedding = detector.compute(prepared).image_embeds[0, : detector.model.config.embedding_dim]
        scored.append(time.perf_counter() - start)
        start = time.perf_counter()
        probe.is_page(embedding)
        asked.append(time.perf_counter() - start)
    score, ask = statistics.median(scored), statistics.median(asked)
    print(f"\nasking takes {1000 * ask:.3f} ms, {100 * ask / score:.3f} % of the {1000 * score:.0f} ms of a score")


if __name__ == "__main__":
    main()
