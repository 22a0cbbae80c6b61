"""Whether "far from the known data" means anything: three distances, unusual pictures, and the errors of far ones.

    python bench/known_data.py BANK [--drawings FOLDER] [--merge_sources NAME=OTHER ...]

BANK is a feature bank of the default backbone (`python -m train features`; clean views are enough). Every distance
and every score is of a picture whose source had been left out. The scores are those of a logistic regression, which
takes seconds for each group of sources and is about as good as the head.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from tqdm import tqdm
from unusual_pictures import unusual_pictures

from modeling.cautions.known_data import FAR
from modeling.detector import Detector
from modeling.images import open_image
from train.features.bank import FeatureBank
from train.fit.baselines import BASELINES, baseline_scores
from train.fit.known_data import GROUPS, fit_gaussian, held_out_distances
from train.measure.sources import join_sources

NEIGHBOURS = 5
SPLITS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank")
    parser.add_argument("--drawings", type=Path)
    parser.add_argument("--merge_sources", nargs="*", default=[])
    arguments = parser.parse_args()
    bank = FeatureBank.load(arguments.bank)
    join_sources(bank.rows, arguments.merge_sources)
    bank = bank.select((bank.rows["view"] == 0).to_numpy())
    unusual, probabilities = embed_unusual(arguments.drawings)
    sources = bank.rows["source"].to_numpy()
    # As in the product: of the embedding alone, not of what else the head reads.
    embeds = bank.image_embeds.numpy()[:, : next(iter(unusual.values())).shape[1]]
    mean, whitener = fit_gaussian(embeds)
    distances = {
        "Mahalanobis": (
            held_out_distances(embeds, sources),
            {kind: np.linalg.norm((rows - mean) @ whitener, axis=1) for kind, rows in unusual.items()},
        ),
        "Mahalanobis, embeddings of length 1": (
            held_out_distances(unit(embeds), sources),
            {kind: np.linalg.norm(whitened(unit(embeds), unit(rows)), axis=1) for kind, rows in unusual.items()},
        ),
        f"cosine to the {NEIGHBOURS} nearest": (
            neighbour_distances(embeds, embeds, sources[:, None] == sources[None, :]),
            {kind: neighbour_distances(rows, embeds) for kind, rows in unusual.items()},
        ),
    }
    wrong, real, scores = held_out_errors(bank)
    for name, (held_out, others) in distances.items():
        print(f"\n{name}")
        print_unusual(held_out, others)
        print_other_half(held_out, sources)
        print_errors(held_out, wrong, real, scores)
    print("\nthe default checkpoint's verdicts about the unusual pictures")
    config = Detector.from_pretrained().model.config
    for kind, values in probabilities.items():
        generated, said_real = (values >= config.generated_threshold).mean(), (values <= config.real_threshold).mean()
        print(f"  {kind} ({len(values)}): generated {100 * generated:.0f} %, real {100 * said_real:.0f} %")


def embed_unusual(drawings: Path | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By kind: embeddings (N, D), and the default checkpoint's probabilities (N,)."""
    detector = Detector.from_pretrained()
    kinds = unusual_pictures()
    if drawings is not None:
        kinds["drawings of FOLDER"] = [path.read_bytes() for path in sorted(drawings.iterdir())]
    embeds, probabilities = {}, {}
    for kind, files in tqdm(kinds.items(), unit="kind"):
        outputs = []
        with torch.inference_mode():
            for data in files:
                outputs.append(detector.model(**detector.processor(images=[open_image(data)], return_tensors="pt")))
        embeds[kind] = torch.cat([output.image_embeds for output in outputs])[
            :, : detector.model.config.embedding_dim
        ].numpy()
        probabilities[kind] = torch.cat([output.logits.softmax(-1)[:, 1] for output in outputs]).numpy()
    return embeds, probabilities


def unit(embeds: np.ndarray) -> np.ndarray:
    """Each embedding at length 1."""
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def whitened(known: np.ndarray, embeds: np.ndarray) -> np.ndarray:
    """Embeddings in the units of the known ones' spread."""
    mean, whitener = fit_gaussian(known)
    return (embeds - mean) @ whitener


def neighbour_distances(embeds: np.ndarray, known: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Mean cosine distance to the nearest known pictures; those of one's own source are left out."""
    cosine = unit(embeds) @ unit(known).T
    if left_out is not None:
        cosine[left_out] = -1
    return 1 - np.sort(cosine, axis=1)[:, -NEIGHBOURS:].mean(axis=1)


def held_out_errors(bank: FeatureBank) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each picture is misjudged at score 0, whether it is real, and its score."""
    scores = np.empty(len(bank))
    sources, name = bank.rows["source"].to_numpy(), list(BASELINES)[1]
    for others, held_out in tqdm([*GroupKFold(GROUPS).split(sources, groups=sources)], unit="fit"):
        scores[held_out] = baseline_scores(name, bank, others, held_out)
    real = bank.rows["label"].to_numpy() == 0
    return (scores > 0) == real, real, scores


def print_unusual(held_out: np.ndarray, others: dict[str, np.ndarray]) -> None:
    """Share of unusual pictures that are far."""
    for share in (0.95, FAR):
        limit = np.quantile(held_out, share)
        rates = ", ".join(f"{kind} {100 * (values > limit).mean():.0f} %" for kind, values in others.items())
        print(f"  farther than {100 * share:.0f} % of held-out pictures: {rates}")


def print_other_half(held_out: np.ndarray, sources: np.ndarray) -> None:
    """Share of far pictures in half of the sources, by the limit of the other half."""
    rng, names, rates = np.random.default_rng(0), np.unique(sources), []
    for _ in range(SPLITS):
        half = np.isin(sources, rng.permutation(names)[: len(names) // 2])
        rates.append((held_out[~half] > np.quantile(held_out[half], FAR)).mean())
    low, middle, high = 100 * np.quantile(rates, (0.05, 0.5, 0.95))
    print(
        f"  far in half of the sources, by the other half's limit: {middle:.1f} % (5 to 95 %: {low:.1f} to {high:.1f})"
    )


def print_errors(held_out: np.ndarray, wrong: np.ndarray, real: np.ndarray, scores: np.ndarray) -> None:
    """Errors by distance."""
    bands = {
        "nearest half": held_out <= np.quantile(held_out, 0.5),
        "half to 80 %": (held_out > np.quantile(held_out, 0.5)) & (held_out <= np.quantile(held_out, 0.8)),
        "80 to 95 %": (held_out > np.quantile(held_out, 0.8)) & (held_out <= np.quantile(held_out, 0.95)),
        "95 to 99 %": (held_out > np.quantile(held_out, 0.95)) & (held_out <= np.quantile(held_out, FAR)),
        "far": held_out > np.quantile(held_out, FAR),
    }
    for name, band in bands.items():
        both = len(np.unique(real[band])) == 2
        auc = f"{roc_auc_score(~real[band], scores[band]):.3f}" if both else "not known"
        all_wrong, real_wrong, generated_wrong = (
            100 * wrong[part].mean() for part in (band, band & real, band & ~real)
        )
        print(
            f"  {name} ({band.sum()}, {100 * real[band].mean():.0f} % real): misjudged {all_wrong:.1f} % "
            f"(real {real_wrong:.1f} %, generated {generated_wrong:.1f} %), AUC {auc}"
        )
    print(f"  AUC of the distance for misjudged pictures: {roc_auc_score(wrong, held_out):.3f} (0.5 = no help)")


if __name__ == "__main__":
    main()
