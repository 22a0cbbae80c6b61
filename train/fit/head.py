"""One fit of a head on rows of a bank: every head of the project comes from here, in `fit` and in studies."""

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PrinterCallback, set_seed

from modeling import RobustClipForImageClassification
from modeling.checkpoints import default_backbone

from ..arguments import RobustTrainingArguments
from ..embedding_dataset import EmbeddingDataset, collate_batch
from ..features.bank import FeatureBank
from ..measure.shapes import number_shapes
from ..trainer import RobustTrainer
from .components import fit_components, projected
from .options import HeadArguments


def new_model(bank: FeatureBank, arguments: HeadArguments) -> RobustClipForImageClassification:
    """The bank's backbone with a fresh head."""
    return RobustClipForImageClassification.from_backbone(
        backbone_folder(bank),
        use_text=bank.text_embeds is not None,
        image_size=bank.info.get("image_size"),
        image_layers=arguments.image_layers,
        image_tokens=arguments.image_tokens,
        head_components=arguments.head_components,
        head_depth=arguments.head_depth,
        head_width=arguments.head_width,
        head_dropout=arguments.head_dropout,
    )


def backbone_folder(bank: FeatureBank) -> str:
    """Folder or Hub id of the bank's backbone."""
    return str(default_backbone()) if bank.info["backbone"] == "default" else bank.info["backbone"]


def fit_head(
    model: RobustClipForImageClassification,
    bank: FeatureBank,
    rows: np.ndarray,
    training: RobustTrainingArguments,
    components: nn.ModuleList | None = None,
) -> None:
    """Fit a fresh head, in place, on these rows of the bank. The same seed gives the same head.

    Args:
        model: as `new_model` makes it.
        bank: the data.
        rows: of the bank, to fit on.
        training: the recipe.
        components: what `fit_components` gives for these rows, where it is known already.

    Raises:
        ValueError: there are not more rows than components, or `balance_shapes` and a picture's size is not known.
    """
    if components is None and model.head.components is not None:
        components = fit_components(model, bank, rows)
    set_seed(training.seed)
    model.reset_head()
    model.head.components = components
    labels = torch.tensor(bank.rows["label"].to_numpy(dtype=np.int64))
    sources = torch.from_numpy(pd.factorize(bank.rows["source"])[0])
    shapes = torch.from_numpy(number_shapes(bank.rows)) if training.balance_shapes else None
    with projected(model, bank.image_embeds, rows) as image_embeds:
        dataset = EmbeddingDataset(image_embeds, labels, bank.text_embeds, torch.from_numpy(rows), sources, shapes)
        trainer = RobustTrainer(
            model=model,
            args=training,
            train_dataset=dataset,
            data_collator=collate_batch,  # type: ignore[arg-type]
        )
        trainer.remove_callback(PrinterCallback)  # run times of dozens of fits
        trainer.train()
    # Under mixed precision Trainer has wrapped `forward`, once more at each fit; scores are taken in float32.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def fitted_tensors(model: RobustClipForImageClassification) -> dict[str, torch.Tensor]:
    """The tensors that a fit decides: what is trained, and the head's own statistics."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if name in trained or name.startswith("head.")}


__all__ = ["backbone_folder", "fit_head", "fitted_tensors", "new_model"]
