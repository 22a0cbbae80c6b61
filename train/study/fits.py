"""The fits of a study on held-out sources: made when they are asked for, and kept on disk.

Every head comes from `fit_head`, the same code that fits the one that ships. Each fit is stored under the digest of
all that decides it: an interrupted study goes on where it stopped, and parts that need the same fit share it.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from modeling import RobustClipForImageClassification
from modeling.verdicts import CLASSES

from ..arguments import RobustTrainingArguments
from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from ..fit.baselines import BASELINES, baseline_scores
from ..fit.components import fit_components
from ..fit.fitting import FitArguments
from ..fit.head import fit_head, new_model
from ..jobs.shared_work import share_work
from ..losses import robust_loss
from ..measure.sources import folds_of_sources
from .figures import HeldOut
from .landscape import measure_landscape

# Generated pictures for each real one in training.
RATIOS = (1, 10, 100)


@dataclass(frozen=True)
class Case:
    """One way to fit: what differs from the recipe.

    Args:
        name: as the report calls it.
        changes: fields of `RobustTrainingArguments`.
        head: fields of `FitArguments` that shape the head.
        inputs: "bank" (all that the bank has), "image", "text", or the name of another bank in `Study.banks`.
        ratio: one of RATIOS, or 0 for every picture of the bank.
        views: fit on view numbers below this; 0 for every view.
        baseline: fit this logistic regression of `BASELINES` instead of a head.
        keep_head: keep the head that is fitted without group 0, for its landscape.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    inputs: str = "bank"
    ratio: int = 0
    views: int = 0
    baseline: str | None = None
    keep_head: bool = False


class Study:
    """The fits of a study.

    Args:
        bank: the data.
        folder: where fits are kept.
        training: the recipe; `seed` and what a `Case` changes are replaced.
        folds: groups of sources, held out in turn: the same for every case and seed.

    Attributes:
        rows: the held-out pictures as they are (view 0), in the order of the scores.
        fold: (V,) number of the group that each view of the bank is in.
        banks: what cases name as their `inputs`; all have the same rows.

    Raises:
        ValueError: there are fewer sources than groups, or a class lies in one group alone.
    """

    def __init__(self, bank: FeatureBank, folder: Path, training: RobustTrainingArguments, folds: int) -> None:
        """Split the sources into groups that hold both classes as evenly as whole sources allow."""
        self.training, self.folder = training, folder
        self.labels = bank.rows["label"].to_numpy()
        self.sources = bank.rows["source"].to_numpy()
        number = len(np.unique(self.sources))
        if not 2 <= folds <= number:
            raise ValueError(f"`folds` must be from 2 to the bank's {number} sources, got {folds}.")
        self.splits = folds_of_sources(self.labels, self.sources, folds)
        for train_rows, held_out in self.splits:
            if len(np.unique(self.labels[train_rows])) < 2:
                raise ValueError(
                    f"Without {sorted(set(self.sources[held_out]))} one class has no picture left: each class needs "
                    "sources in at least two groups; lower `folds`."
                )
        self.fold = np.empty(len(bank), dtype=np.int64)
        for number, (_, held_out) in enumerate(self.splits):
            self.fold[held_out] = number
        self.view = bank.rows["view"].to_numpy()
        clean = [rows[self.view[rows] == 0] for _, rows in self.splits]
        fold_of_row = np.repeat(np.arange(folds), [len(rows) for rows in clean])
        self.clean = np.concatenate(clean)
        self.rows = HeldOut(bank.rows.iloc[self.clean], fold_of_row)
        self.banks = {"bank": bank}
        if bank.text_embeds is not None:
            self.banks["image"] = dataclasses.replace(bank, text_embeds=None)
            self.banks["text"] = dataclasses.replace(bank, image_embeds=torch.zeros_like(bank.image_embeds))
        self._narrowed: dict[str, FeatureBank] = {}
        self._models: dict[str, RobustClipForImageClassification] = {}
        self._known_components: dict[str, nn.ModuleList] = {}

    def run(self, cases: Sequence[tuple[Case, Sequence[int]]]) -> None:
        """Make every fit of these (case, seeds), each group left out in turn, that is not there yet."""
        folds = range(len(self.splits))
        self.make((case, seed, (fold,)) for case, seeds in cases for seed in seeds for fold in folds)

    def make(self, fits: Iterable[tuple[Case, int, tuple[int, ...]]]) -> None:
        """Make every fit (case, seed, groups left out) that is not there yet."""
        tasks: dict[Path, Callable[[], dict[str, Tensor]]] = {}
        for case, seed, left_out in fits:
            tasks.setdefault(self._path(case, seed, left_out), partial(self._fit, case, seed, left_out))
        share_work(tasks, "fits", "fit")

    def _fit(self, case: Case, seed: int, left_out: tuple[int, ...]) -> dict[str, Tensor]:
        """Held-out scores and how long they took."""
        begin = time.perf_counter()
        fit = self._fit_baseline if case.baseline else self._fit_head
        tensors = fit(case, seed, left_out)
        return tensors | {"seconds": torch.tensor(time.perf_counter() - begin)}

    def scores(self, case: Case, seeds: Sequence[int]) -> NDArray:
        """(N, S) scores of the held-out pictures as they are, in the order of `rows`; a column a seed."""
        columns = []
        for seed in seeds:
            every = np.full(len(self.view), np.nan)
            for fold in range(len(self.splits)):
                every[self.scored_rows((fold,))] = self.scores_of(case, seed, (fold,))
            columns.append(every[self.clean])
        return np.stack(columns, axis=1)

    def scores_of(self, case: Case, seed: int, left_out: tuple[int, ...]) -> NDArray:
        """Scores of `scored_rows(left_out)` by one fit."""
        return load_file(self._path(case, seed, left_out))["scores"].numpy()

    def seconds_of(self, case: Case, seed: int, left_out: tuple[int, ...]) -> float:
        """How long that fit and its scores took."""
        return load_file(self._path(case, seed, left_out))["seconds"].item()

    def scored_rows(self, left_out: tuple[int, ...]) -> NDArray:
        """Rows that a fit without these groups scores: the pictures as they are, and under standard deliveries."""
        return np.flatnonzero(np.isin(self.fold, left_out) & (self.view <= 0))

    def landscape(self, case: Case, seed: int, *, with_grid: bool) -> dict:
        """Landscape of the recipe's loss, on the rows of every group but 0, around the head that was fitted on them.

        The case must have been run with `keep_head`. The loss is the recipe's whatever the case changes, so that two
        cases can be compared.
        """
        model, bank, training = self._model(case), self._bank(case), self.training
        stored = load_file(self._path(case, seed, (0,)))
        head = {name: value for name, value in stored.items() if name not in ("scores", "seconds")}
        model.load_state_dict(head, strict=False)
        rows, _ = self.splits[0]
        labels = torch.tensor(self.labels[rows])
        text = None if bank.text_embeds is None else bank.text_embeds[rows]
        over_sources = training.cvar_over == "sources"
        sources = torch.from_numpy(pd.factorize(self.sources[rows])[0]) if over_sources else None

        def loss() -> Tensor:
            return robust_loss(
                model(image_embeds=bank.image_embeds[rows], text_embeds=text).score,
                labels,
                cvar_alpha=training.cvar_alpha,
                auc_margin=training.auc_margin,
                auc_power=training.auc_power,
                cvar_weight=training.cvar_weight,
                sources=sources,
                label_smoothing=training.label_smoothing_factor,
            ).loss

        return measure_landscape(model, loss, rho=training.sam_rho, seed=seed, with_grid=with_grid)

    def training_rows(self, case: Case, seed: int, left_out: tuple[int, ...]) -> NDArray:
        """Rows to fit on; with a ratio, the same number of pictures at every ratio, the smaller sets nested."""
        fitted = (self.view >= 0) & (self.view < (case.views or np.inf))
        rows = np.flatnonzero(~np.isin(self.fold, left_out) & fitted)
        if not case.ratio:
            return rows
        records = self.banks["bank"].rows["record_id"].to_numpy()[rows]
        rng = np.random.default_rng([seed, *left_out])
        real, generated = (rng.permutation(np.unique(records[self.labels[rows] == label])) for label in (0, 1))
        largest = max(RATIOS)
        total = min(2 * len(real), 2 * len(generated), len(generated) * (largest + 1) // largest)
        real_pictures = max(1, round(total / (case.ratio + 1)))
        kept = np.concatenate([real[:real_pictures], generated[: total - real_pictures]])
        return rows[np.isin(records, kept)]

    def pictures(self, case: Case, seeds: Sequence[int]) -> dict[str, float]:
        """Pictures of each class that the case is fitted on: mean over seeds and groups."""
        rows = self.banks["bank"].rows
        counts = np.zeros(2)
        for seed in seeds:
            for fold in range(len(self.splits)):
                chosen = rows.iloc[self.training_rows(case, seed, (fold,))]
                counts += [(chosen[chosen["view"] == 0]["label"] == label).sum() for label in (0, 1)]
        mean = counts / (len(seeds) * len(self.splits))
        return dict(zip(CLASSES, mean.tolist(), strict=True))

    def shares_text(self) -> NDArray:
        """(N,) of `rows`: whether the very text of the picture is also found with the other class."""
        embeds = cast(Tensor, self.banks["bank"].text_embeds)[self.clean]
        _, text = np.unique(embeds.numpy(), axis=0, return_inverse=True)
        labels = self.rows.rows["label"].to_numpy()
        both = np.intersect1d(text[labels == 0], text[labels == 1])
        return np.isin(text, both) & (embeds != 0).any(dim=1).numpy()

    def _settings(self, case: Case, seed: int) -> RobustTrainingArguments:
        quiet = {"output_dir": str(self.folder), "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
        return dataclasses.replace(self.training, **case.changes, **quiet, seed=seed)  # type: ignore[arg-type]

    def _path(self, case: Case, seed: int, left_out: tuple[int, ...]) -> Path:
        """Where a fit is kept: named by data, rows and settings, so that one of another study is never taken."""
        rows = self.training_rows(case, seed, left_out)
        settings = self._settings(case, seed).to_dict()
        del settings["output_dir"]
        decides = {
            "bank": self.banks[case.inputs].info["fingerprint"],
            "rows": hashlib.sha256(rows.tobytes() + "\n".join(self.sources[rows]).encode()).hexdigest(),
            "held_out": hashlib.sha256(self.scored_rows(left_out).tobytes()).hexdigest(),
            "inputs": case.inputs,
            "head": case.head,
            "fit": list(BASELINES[case.baseline]) if case.baseline else settings,
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.safetensors"

    def _bank(self, case: Case) -> FeatureBank:
        """The bank with the inputs and the image features of a case."""
        name = json.dumps([case.inputs, case.head.get("image_layers"), case.head.get("image_tokens")])
        if name not in self._narrowed:
            # One in memory at a time.
            self._narrowed = {name: self.banks[case.inputs].narrow(self._model(case).config)}
        return self._narrowed[name]

    def _model(self, case: Case) -> RobustClipForImageClassification:
        name = json.dumps([case.inputs, case.head])
        if name not in self._models:
            self._models[name] = new_model(self.banks[case.inputs], FitArguments(bank="", **case.head))
        return self._models[name]

    def _fit_head(self, case: Case, seed: int, left_out: tuple[int, ...]) -> dict[str, Tensor]:
        """Held-out scores, and the head where a landscape needs it."""
        model, bank = self._model(case), self._bank(case)
        with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints the run time of every fit
            rows = self.training_rows(case, seed, left_out)
            fit_head(model, bank, rows, self._settings(case, seed), self._components(case, rows))
        rows = self.scored_rows(left_out)
        text = None if bank.text_embeds is None else bank.text_embeds[rows]
        tensors = {"scores": torch.from_numpy(score_embeddings(model, bank.image_embeds[rows], text))}
        if left_out == (0,) and case.keep_head:
            trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            state = model.state_dict()
            tensors |= {name: state[name] for name in state if name in trained or name.startswith("head.")}
        return tensors

    def _components(self, case: Case, rows: NDArray) -> nn.ModuleList | None:
        """Those of the head, fitted once for all seeds and cases that have them on these rows."""
        model = self._model(case)
        if model.head.components is None:
            return None
        read = [case.inputs, model.config.image_layers, model.config.image_tokens, model.config.head_components]
        name = f"{json.dumps(read)} {hashlib.sha256(rows.tobytes()).hexdigest()}"
        if name not in self._known_components:
            self._known_components[name] = fit_components(model, self._bank(case), rows)
        return self._known_components[name]

    def _fit_baseline(self, case: Case, seed: int, left_out: tuple[int, ...]) -> dict[str, Tensor]:
        """Held-out scores of a logistic regression on the image embeddings."""
        rows = self.training_rows(case, seed, left_out)
        scores = baseline_scores(str(case.baseline), self._bank(case), rows, self.scored_rows(left_out))
        return {"scores": torch.from_numpy(scores)}


__all__ = ["RATIOS", "Case", "Study"]
