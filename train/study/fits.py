"""The fits of a study on held-out sources: made when they are asked for, and kept on disk.

Every head comes from `fit_head`, the same code that fits the one that ships. Each fit is stored by its key
(`train.fit.stored`): an interrupted study goes on where it stopped, and cases that need the same fit share it.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modeling import RobustClipForImageClassification
from modeling.verdicts import CLASSES

from ..arguments import RobustTrainingArguments
from ..embedding_dataset import score_embeddings
from ..features.bank import FeatureBank
from ..fit.baselines import baseline_scores
from ..fit.components import fit_components
from ..fit.head import fit_head, fitted_tensors, new_model
from ..fit.options import HeadArguments
from ..fit.stored import fit_key, load_fit
from ..jobs.shared_work import share_work
from .landscape import RHO, measure_landscape, recipe_loss
from .plan import LEFT_OUT_BY, Case

_HEAD = {field.name for field in fields(HeadArguments)}


@dataclass(frozen=True)
class Fit:
    """One fit: a case, a seed, and the groups of sources that it never sees.

    `keep_head` stores the head beside the scores, for its landscape.
    """

    case: Case
    seed: int
    left_out: tuple[int, ...]
    keep_head: bool = False


class Study:
    """The fits of a study.

    Args:
        bank: the data.
        folder: where fits are kept.
        head: of the recipe, which cases change.
        training: of the recipe; its seed is replaced.
        group: (V,) number of the group that each view of the bank is held out with, as `split` gives it: the same for
            every case and seed.
        largest_ratio: of the cases, which decides how many pictures those with a ratio are fitted on.

    Attributes:
        clean: (N,) rows of the bank that are pictures as they are, group after group.
        banks: what cases name as their `bank`; "" is the first. All have the same rows.
    """

    def __init__(
        self,
        bank: FeatureBank,
        folder: Path,
        head: HeadArguments,
        training: RobustTrainingArguments,
        group: NDArray,
        *,
        largest_ratio: int = 1,
    ) -> None:
        self.head, self.training, self.folder = head, training, folder
        self.group, self.groups, self.largest_ratio = group, range(int(group.max()) + 1), largest_ratio
        self.labels, self.sources = bank.rows["label"].to_numpy(), bank.rows["source"].to_numpy()
        self.view = bank.rows["view"].to_numpy()
        clean = np.flatnonzero(self.view == 0)
        self.clean = clean[np.argsort(self.group[clean], kind="stable")]
        self.banks = {"": bank}
        self._paths: dict[tuple, Path] = {}
        self._narrowed: dict[str, FeatureBank] = {}
        self._models: dict[str, RobustClipForImageClassification] = {}
        self._known_components: dict[str, nn.ModuleList] = {}

    def make(self, fits: Iterable[Fit]) -> None:
        """Make every fit that is not there yet."""
        tasks: dict[Path, Callable[[], dict[str, Tensor]]] = {}
        for fit in fits:
            tasks.setdefault(self._path(fit), partial(self._make, fit))
        share_work(tasks, "fits", "fit")

    def stored(self, fit: Fit) -> dict[str, Tensor]:
        """`scores` of `scored_rows(fit.left_out)`, `seconds`, and the head where it is kept."""
        shapes: dict[str, Sequence[int]] = {"scores": self.scored_rows(fit.left_out).shape, "seconds": ()}
        kept = fitted_tensors(self._model(fit.case)) if fit.keep_head else {}
        return load_fit(self._path(fit), shapes | {name: tensor.shape for name, tensor in kept.items()})

    def scores(self, case: Case, seeds: Sequence[int]) -> NDArray:
        """(V, S) scores by fits that never saw the view's group, a column a seed; NaN where a view is not scored."""
        scores = np.full((len(self.view), len(seeds)), np.nan)
        for column, seed in enumerate(seeds):
            for group in self.groups:
                scores[self.scored_rows((group,)), column] = self.stored(Fit(case, seed, (group,)))["scores"].numpy()
        return scores

    def scored_rows(self, left_out: tuple[int, ...]) -> NDArray:
        """Rows that a fit without these groups scores: the pictures as they are, and under standard deliveries."""
        return np.flatnonzero(np.isin(self.group, left_out) & (self.view <= 0))

    def training_rows(self, fit: Fit) -> NDArray:
        """Rows to fit on; with a ratio, the same number of pictures at every ratio, the smaller sets nested."""
        case = fit.case
        fitted = (self.view >= 0) & (self.view < (case.views or np.inf))
        rows = np.flatnonzero(~np.isin(self.group, fit.left_out) & fitted & ~self._without(case))
        if not case.ratio:
            return rows
        records = self.banks[""].rows["record_id"].to_numpy()[rows]
        rng = np.random.default_rng([fit.seed, *fit.left_out])
        real, generated = (rng.permutation(np.unique(records[self.labels[rows] == label])) for label in (0, 1))
        largest = max(case.ratio, self.largest_ratio)
        total = min(2 * len(real), 2 * len(generated), len(generated) * (largest + 1) // largest)
        real_pictures = max(1, round(total / (case.ratio + 1)))
        kept = np.concatenate([real[:real_pictures], generated[: total - real_pictures]])
        return rows[np.isin(records, kept)]

    def _without(self, case: Case) -> NDArray:
        """(V,) whether a case is not fitted on a view; which share of pictures that is depends on their names only."""
        rows = self.banks[""].rows
        left_out = np.zeros(len(rows), dtype=bool)
        for entry in case.without:
            of_entry = np.ones(len(rows), dtype=bool)
            for name in filter(entry.__contains__, LEFT_OUT_BY):
                wanted = entry[name] if isinstance(entry[name], list) else [entry[name]]
                wanted = [CLASSES.index(value) for value in wanted] if name == "label" else wanted
                if missing := set(wanted) - set(rows[name]):
                    raise ValueError(
                        f"`without` of {case.name!r} names {missing.pop()!r}, which is no {name} of the bank."
                    )
                of_entry &= rows[name].isin(wanted).to_numpy()
            left_out |= of_entry & (_places(rows["record_id"]) < entry.get("share", 1))
        return left_out

    def fitted_on(self, case: Case, seeds: Sequence[int]) -> list[float]:
        """Real and generated pictures that the case is fitted on: mean over seeds and groups."""
        counts = []
        for seed in seeds:
            for group in self.groups:
                rows = self.training_rows(Fit(case, seed, (group,)))
                counts.append(np.bincount(self.labels[rows[self.view[rows] == 0]], minlength=2))
        return np.mean(counts, axis=0).tolist()

    def is_same(self, first: Case, second: Case, seed: int) -> bool:
        """Whether two cases are one and the same fit with this recipe."""
        return self._path(Fit(first, seed, (0,))) == self._path(Fit(second, seed, (0,)))

    def shares_text(self) -> NDArray:
        """(N,) of `clean`: whether the very text of the picture is also found with the other class."""
        embeds = cast(Tensor, self.banks[""].text_embeds)[self.clean]
        _, text = np.unique(embeds.numpy(), axis=0, return_inverse=True)
        labels = self.labels[self.clean]
        both = np.intersect1d(text[labels == 0], text[labels == 1])
        return np.isin(text, both) & (embeds != 0).any(dim=1).numpy()

    def landscape(self, case: Case, seed: int, *, with_grid: bool) -> dict:
        """Landscape of the recipe's loss, on the rows of every group but 0, around the head that was fitted on them.

        The fit must have been made with `keep_head`. The loss is the recipe's whatever the case changes, so that two
        cases can be compared.
        """
        model, bank, fit = self._model(case), self._bank(case), Fit(case, seed, (0,), keep_head=True)
        head = {name: value for name, value in self.stored(fit).items() if name not in ("scores", "seconds")}
        model.load_state_dict(head, strict=False)  # the backbone stays
        loss = recipe_loss(model, bank, self.training_rows(fit), self.training)
        return measure_landscape(model, loss, rho=self.training.sam_rho or RHO, seed=seed, with_grid=with_grid)

    def _path(self, fit: Fit) -> Path:
        """Where a fit is kept."""
        named = (fit.case.name, fit.seed, fit.left_out, fit.keep_head)
        if named not in self._paths:
            bank, config = self._inputs(fit.case), self._model(fit.case).config
            training = self._training(fit)
            method = fit.case.baseline or training
            more = f"{fit.case.inputs}{', with the head' if fit.keep_head else ''}"
            if fit.case.baseline and training.balance_shapes:
                more += ", shapes balanced"
            key = fit_key(bank, self.training_rows(fit), self.scored_rows(fit.left_out), config, method, more)
            self._paths[named] = self.folder / f"{key}.safetensors"
        return self._paths[named]

    def _head(self, case: Case) -> HeadArguments:
        return dataclasses.replace(self.head, **{name: case.settings[name] for name in _HEAD & set(case.settings)})

    def _training(self, fit: Fit) -> RobustTrainingArguments:
        changes = {name: value for name, value in fit.case.settings.items() if name not in _HEAD}
        quiet = {"output_dir": str(self.folder), "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
        return dataclasses.replace(self.training, **changes, **quiet, seed=fit.seed)  # type: ignore[arg-type]

    def _make(self, fit: Fit) -> dict[str, Tensor]:
        """Held-out scores and how long they took."""
        begin = time.perf_counter()
        tensors = self._fit_baseline(fit) if fit.case.baseline else self._fit_head(fit)
        return tensors | {"seconds": torch.tensor(time.perf_counter() - begin)}

    def _fit_baseline(self, fit: Fit) -> dict[str, Tensor]:
        """Held-out scores of a logistic regression on the inputs of the case."""
        rows, held_out, bank = self.training_rows(fit), self.scored_rows(fit.left_out), self._bank(fit.case)
        balance_shapes = self._training(fit).balance_shapes
        scores = baseline_scores(str(fit.case.baseline), bank, rows, held_out, balance_shapes=balance_shapes)
        return {"scores": torch.from_numpy(scores)}

    def _fit_head(self, fit: Fit) -> dict[str, Tensor]:
        """Held-out scores, and the head where a landscape needs it."""
        model, bank, rows = self._model(fit.case), self._bank(fit.case), self.training_rows(fit)
        with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints the run time of every fit
            fit_head(model, bank, rows, self._training(fit), components=self._components(fit.case, rows))
        rows = self.scored_rows(fit.left_out)
        text = None if bank.text_embeds is None else bank.text_embeds[rows]
        tensors = {"scores": torch.from_numpy(score_embeddings(model, bank.image_embeds[rows], text))}
        if fit.keep_head:
            tensors |= fitted_tensors(model)
        return tensors

    def _bank(self, case: Case) -> FeatureBank:
        """The bank with the inputs and the image features of a case."""
        head = self._head(case)
        name = json.dumps([case.bank, case.inputs, head.image_layers, head.image_tokens])
        if name not in self._narrowed:
            bank = self._inputs(case).narrow(self._model(case).config)
            self._narrowed = {name: bank}  # one in memory at a time
        return self._narrowed[name]

    def _inputs(self, case: Case) -> FeatureBank:
        bank = self.banks[case.bank]
        if case.inputs == "image":
            return dataclasses.replace(bank, text_embeds=None)
        if case.inputs == "text":
            return dataclasses.replace(bank, image_embeds=torch.zeros_like(bank.image_embeds))
        return bank

    def _model(self, case: Case) -> RobustClipForImageClassification:
        head = self._head(case)
        name = json.dumps([case.bank, case.inputs, dataclasses.asdict(head)])
        if name not in self._models:
            self._models[name] = new_model(self._inputs(case), head)
        return self._models[name]

    def _components(self, case: Case, rows: NDArray) -> nn.ModuleList | None:
        """Those of the head, fitted once for all seeds and cases that have them on these rows."""
        model = self._model(case)
        if model.head.components is None:
            return None
        read = [case.bank, case.inputs, model.config.image_layers, model.config.image_tokens]
        name = f"{json.dumps([*read, model.config.head_components])} {hashlib.sha256(rows.tobytes()).hexdigest()}"
        if name not in self._known_components:
            self._known_components[name] = fit_components(model, self._bank(case), rows)
        return self._known_components[name]


def _places(record_ids: pd.Series) -> NDArray:
    """A number in [0, 1) for each picture, by its identifier."""
    numbers = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 for name in record_ids.unique()}
    return record_ids.map(numbers).to_numpy()


__all__ = ["Fit", "Study"]
