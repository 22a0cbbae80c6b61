"""RobustTrainer against hand-made steps, on tiny models."""

import copy
import sqlite3
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import EarlyStoppingCallback

from tests.train.tiny_training import arguments, auc, embeddings, trainer
from train.embedding_dataset import EmbeddingDataset, collate_batch, score_embeddings
from train.features.bank import FeatureBank
from train.losses import robust_loss
from train.measure.metrics import roc_auc
from train.trainer import RobustTrainer


def test_one_step_equals_sam_by_hand(tiny_model, tmp_path):
    torch.manual_seed(1)
    for layer in tiny_model.head.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    dataset = embeddings(rows=16)
    ours = copy.deepcopy(tiny_model)
    settings = {
        "text_dropout": 0.0,
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "weight_decay": 0.0,
        "lr_scheduler_type": "constant",
    }
    settings |= {"learning_rate": 0.1, "lr_scheduler_kwargs": {}}
    trainer(ours, tmp_path, dataset, **settings).train()

    by_hand = tiny_model.train()
    trained = {name: p for name, p in by_hand.named_parameters() if p.requires_grad}

    def gradients():
        batch = {name: dataset.tensors[name] for name in ("image_embeds", "text_embeds")}
        loss = robust_loss(by_hand(**batch).score, dataset.tensors["labels"]).loss
        return torch.autograd.grad(loss, trained.values(), allow_unused=True)

    first = gradients()
    norm = torch.cat([g.flatten() for g in first if g is not None]).norm()
    originals = [p.detach().clone() for p in trained.values()]
    with torch.no_grad():
        for p, g in zip(trained.values(), first, strict=True):
            p += 0 if g is None else 0.05 * g / norm
    second = gradients()
    for name, original, g in zip(trained, originals, second, strict=True):
        expected = original if g is None else original - 0.1 * g
        torch.testing.assert_close(
            dict(ours.named_parameters())[name].detach(), expected, msg=name, rtol=1e-4, atol=1e-6
        )


def test_sam_without_radius_equals_plain_training(tiny_model, tmp_path):
    results = []
    for rho in (0.0, 1e-12):
        model = copy.deepcopy(tiny_model)
        trainer(model, tmp_path, max_steps=4, sam_rho=rho).train()
        results.append(model.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_batch_norm_statistics_are_counted_once_a_step(tiny_model, tmp_path):
    trainer(tiny_model, tmp_path, max_steps=3).train()
    counts = [
        layer.num_batches_tracked.item() for layer in tiny_model.head.modules() if hasattr(layer, "running_mean")
    ]
    assert counts == [3, 3, 3]


def test_training_moves_every_trainable_parameter_and_no_frozen_one(tiny_model, tmp_path):
    before = copy.deepcopy(tiny_model.state_dict())
    trainer(tiny_model, tmp_path, max_steps=5).train()
    for name, parameter in tiny_model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_training_separates_the_classes(tiny_model, tmp_path):
    run = trainer(
        tiny_model, tmp_path, embeddings(rows=512), max_steps=80, learning_rate=1e-2, per_device_train_batch_size=128
    )
    run.train()
    assert run.evaluate(embeddings(rows=256, seed=1))["eval_auc"] > 0.85


def test_the_same_seed_gives_the_same_weights(tiny_model, tmp_path):
    results = []
    for _ in range(2):
        model = copy.deepcopy(tiny_model)
        trainer(model, tmp_path, max_steps=3, seed=5).train()
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_loss_parts_are_logged(tiny_model, tmp_path):
    run = trainer(tiny_model, tmp_path, max_steps=2, logging_strategy="steps", logging_steps=1)
    run.train()
    assert {"loss", "cvar", "cvar_threshold", "auc_loss", "grad_norm"} <= set(run.state.log_history[0])


def test_every_loss_part_reaches_tensorboard_and_trackio(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    settings = {"logging_strategy": "steps", "logging_steps": 1, "max_steps": 2, "project": "test"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reporters' own deprecations
        trainer(tiny_model, tmp_path / "out", report_to=["tensorboard", "trackio"], **settings).train()
        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
    names = ["loss", "cvar", "cvar_threshold", "auc_loss", "grad_norm", "learning_rate"]
    assert {f"train/{name}" for name in names} <= set(found.Tags()["scalars"])
    assert len(found.Scalars("train/cvar_threshold")) == 2
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        logged = str(connection.execute("SELECT metrics FROM metrics").fetchall())
    assert all(f"train/{name}" in logged for name in names)


def test_a_loss_that_is_not_finite_stops_the_training(tiny_model, tmp_path):
    dataset = embeddings()
    dataset.tensors["image_embeds"][3] = float("nan")
    with pytest.raises(FloatingPointError, match="at step 0"):
        trainer(tiny_model, tmp_path, dataset, per_device_train_batch_size=32).train()


def test_a_gradient_that_is_not_finite_stops_the_training_before_the_weights_move(tiny_model, tmp_path):
    before = copy.deepcopy(tiny_model.state_dict())
    for rho in (0.0, 0.05):
        run = trainer(tiny_model, tmp_path, sam_rho=rho, max_steps=3)
        handle = next(tiny_model.head.parameters()).register_hook(lambda g: torch.full_like(g, float("nan")))
        with pytest.raises(FloatingPointError, match="gradient.* is not finite at step 0 .loss .*CVaR .*AUC"):
            run.train()
        handle.remove()
        weights = tiny_model.state_dict()
        assert all(
            torch.equal(weights[name], before[name]) for name in before if "running" not in name and "num" not in name
        )


def test_the_radius_can_be_relative_to_the_weights(tiny_model, tmp_path):
    results = []
    for adaptive in (False, True):
        model = copy.deepcopy(tiny_model)
        trainer(model, tmp_path, max_steps=2, sam_adaptive=adaptive).train()
        results.append(next(model.head.parameters()).detach())
    assert not torch.equal(*results)


def test_a_step_in_bfloat16_is_close_to_one_in_float32(tiny_model, tmp_path):
    moved = []
    for bf16 in (False, True):
        model = copy.deepcopy(tiny_model)
        start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        settings = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "lr_scheduler_kwargs": {}}
        trainer(model, tmp_path, bf16=bf16, **settings).train()
        assert all(p.dtype == torch.float32 for p in model.parameters())
        moved.append(torch.cat([(p.detach() - start[n]).flatten() for n, p in model.named_parameters() if n in start]))
    assert not torch.equal(*moved)
    assert torch.cosine_similarity(*moved, dim=0) > 0.99


def test_a_last_batch_of_one_sample_is_left_out(tiny_model, tmp_path):
    run = trainer(tiny_model, tmp_path, embeddings(rows=33), max_steps=-1, num_train_epochs=2)
    run.train()  # BatchNorm would refuse it
    assert run.state.global_step == 4


def test_a_last_batch_that_training_drops_is_still_evaluated(tiny_model, tmp_path):
    run = trainer(tiny_model, tmp_path, embeddings(rows=33), max_steps=2, per_device_eval_batch_size=32)
    run.train()
    assert run.predict(embeddings(rows=33)).predictions.shape[0] == 33
    assert run.args.dataloader_drop_last is False


def test_scores_after_fits_under_bfloat16_are_those_of_float32(tiny_model, tmp_path):
    from train.fit.head import fit_head

    generator = torch.Generator().manual_seed(0)
    rows = pd.DataFrame({"label": [0, 1] * 16, "source": ["a", "b"] * 16})
    bank = FeatureBank(rows, torch.randn(32, 8, generator=generator), torch.randn(32, 8, generator=generator), {})
    for _ in range(2):
        fit_head(tiny_model, bank, np.arange(32), arguments(tmp_path, bf16=True))
    scores = score_embeddings(tiny_model, bank.image_embeds, bank.text_embeds)
    with torch.inference_mode():
        expected = type(tiny_model).forward(tiny_model, image_embeds=bank.image_embeds, text_embeds=bank.text_embeds)
    assert np.array_equal(scores, expected.score.numpy())


def test_batches_keep_both_classes_where_asked(tiny_model, tmp_path):
    labels = torch.ones(400, dtype=torch.long)
    labels[:8] = 0
    dataset = EmbeddingDataset(torch.randn(400, 8), labels)
    run = trainer(tiny_model, tmp_path, dataset, real_share=0.25, per_device_train_batch_size=40)
    shares = [batch["labels"].eq(0).float().mean().item() for batch in run.get_train_dataloader()]
    assert len(shares) > 10
    assert all(0.2 <= share <= 0.3 for share in shares[:-1])
    with pytest.raises(TypeError, match="need an EmbeddingDataset"):
        trainer(tiny_model, tmp_path, [1, 2, 3], stratified=True).get_train_dataloader()


def test_sources_of_a_class_are_drawn_alike_often_where_asked(tiny_model, tmp_path):
    sources = torch.zeros(400, dtype=torch.long)
    sources[:20] = 1  # ten pictures of each class
    dataset = embeddings(rows=400, sources=sources)
    run = trainer(tiny_model, tmp_path, dataset, source_balance=1.0, per_device_train_batch_size=40)
    batches = list(run.get_train_dataloader())
    assert all("sources" not in batch for batch in batches)
    assert all(batch["labels"].sum() == 20 for batch in batches)
    drawn = dataset.sources[list(run._get_train_sampler())]
    assert drawn.sum() == 200
    with pytest.raises(ValueError, match="`source_balance` needs `sources` of all 400 samples, got none"):
        trainer(tiny_model, tmp_path, embeddings(rows=400), source_balance=1.0).get_train_dataloader()
    with pytest.raises(TypeError, match="`source_balance` and `balance_shapes` need an EmbeddingDataset"):
        trainer(tiny_model, tmp_path, [1, 2, 3], source_balance=1.0).get_train_dataloader()


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_step_takes_cvar_over_sources_and_smooths_labels_where_asked(tiny_model, tmp_path, rho):
    for layer in tiny_model.head.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    dataset = embeddings(rows=16, text=False, sources=torch.arange(16) % 5)
    settings = {"cvar_over": "sources", "label_smoothing_factor": 0.2, "cvar_alpha": 0.5, "sam_rho": rho}
    run = trainer(copy.deepcopy(tiny_model), tmp_path, dataset, **settings)
    run.train()
    scores = tiny_model.train()(image_embeds=dataset.tensors["image_embeds"]).score
    changes = {"sources": dataset.sources, "label_smoothing": 0.2, "cvar_alpha": 0.5}
    expected = robust_loss(scores, dataset.labels, **changes)
    torch.testing.assert_close(run._last_parts if rho == 0 else run._step_parts, expected, rtol=1e-5, atol=1e-6)
    for name in changes:
        fewer = {other: value for other, value in changes.items() if other != name}
        assert not torch.isclose(robust_loss(scores, dataset.labels, **fewer).loss, expected.loss, rtol=1e-3)


def test_evaluation_takes_cvar_over_sources_too(tiny_model, tmp_path):
    dataset = embeddings(rows=16, sources=torch.arange(16) % 5)
    found = trainer(tiny_model, tmp_path, dataset, cvar_over="sources").evaluate(dataset)["eval_loss"]
    scores = torch.from_numpy(
        score_embeddings(tiny_model, *(dataset.tensors[n] for n in ("image_embeds", "text_embeds")))
    )
    assert found == pytest.approx(robust_loss(scores, dataset.labels, sources=dataset.sources).loss.item(), rel=1e-5)


def test_cvar_over_sources_without_them_is_refused(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="must be made with `sources`"):
        trainer(tiny_model, tmp_path, cvar_over="sources").train()
    with pytest.raises(TypeError, match="`cvar_over` sources needs an EmbeddingDataset with sources, got list"):
        trainer(tiny_model, tmp_path, [1, 2, 3], cvar_over="sources").get_train_dataloader()
    batch = dict(embeddings().tensors)
    with pytest.raises(ValueError, match="`cvar_over` sources needs `sources` in every batch"):
        trainer(tiny_model, tmp_path, cvar_over="sources").compute_loss(tiny_model, batch)


def test_a_fit_knows_the_sources_and_shapes_of_its_bank(tiny_model, tmp_path):
    from train.fit.head import fit_head

    rows = pd.DataFrame({"label": [0, 1] * 16, "source": ["a", "b", "a", "c"] * 8})
    rows = rows.assign(width=[4, 4, 3, 3, 5, 5, 4, 4] * 4, height=4)
    bank = FeatureBank(rows, torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), None, {})
    heads = []
    all_changes = ({}, {"cvar_over": "sources"}, {"source_balance": 1.0}, {"balance_shapes": True})
    for changes in (*all_changes, {"label_smoothing_factor": 0.1}):
        fit_head(tiny_model, bank, np.arange(31), arguments(tmp_path, max_steps=3, **changes))
        heads.append(torch.cat([p.detach().flatten() for p in tiny_model.head.parameters()]))
    assert all(not torch.equal(heads[0], other) for other in heads[1:])


def test_shapes_are_balanced_only_where_they_are_known(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="`balance_shapes` needs an EmbeddingDataset with `shapes`, got one without"):
        trainer(tiny_model, tmp_path, balance_shapes=True).get_train_dataloader()
    with pytest.raises(TypeError, match="`balance_shapes` need an EmbeddingDataset, .* got list"):
        trainer(tiny_model, tmp_path, [1, 2, 3], balance_shapes=True).get_train_dataloader()


def test_the_best_epoch_by_auc_is_kept_and_training_stops_early(tiny_model, tmp_path):
    run = RobustTrainer(
        model=tiny_model,
        args=arguments(
            tmp_path,
            max_steps=-1,
            num_train_epochs=60,
            learning_rate=3e-2,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="auc",
        ),
        train_dataset=embeddings(rows=48),
        eval_dataset=embeddings(rows=301, seed=2),
        data_collator=collate_batch,
        compute_metrics=auc,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    run.train()
    history = [entry["eval_auc"] for entry in run.state.log_history if "eval_auc" in entry]
    assert len(history) < 60
    assert run.state.best_metric == max(history)
    assert run.evaluate()["eval_auc"] == pytest.approx(max(history))
    scores = score_embeddings(
        tiny_model, run.eval_dataset.tensors["image_embeds"], run.eval_dataset.tensors["text_embeds"]
    )
    assert roc_auc(run.eval_dataset.tensors["labels"], scores) == pytest.approx(max(history))  # over the whole set


def test_scores_are_those_of_the_model_in_evaluation_mode(tiny_model):
    dataset = embeddings()
    scores = score_embeddings(tiny_model.train(), dataset.tensors["image_embeds"], dataset.tensors["text_embeds"])
    assert scores.shape == (32,)
    assert not tiny_model.training


def test_a_batch_is_a_slice_of_the_tensors():
    dataset = embeddings()
    batch = collate_batch(dataset.__getitems__([3, 1]))
    assert torch.equal(batch["image_embeds"], dataset.tensors["image_embeds"][[3, 1]])
    assert dataset[3]["labels"] == 1


def test_sources_are_in_batches_of_a_dataset_that_is_asked_for_them():
    sources = torch.arange(32) % 3
    dataset = EmbeddingDataset(torch.zeros(32, 8), torch.arange(32) % 2, None, torch.tensor([4, 8, 9]), sources)
    assert dataset.sources.tolist() == [1, 2, 0]
    assert set(dataset.__getitems__([0])) == {"image_embeds", "labels"}
    assert dataset.with_sources().__getitems__([2, 0])["sources"].tolist() == [0, 1]
    assert dataset.with_sources()[1]["sources"] == 2
    assert "sources" not in dataset[1]


def test_rows_must_match():
    with pytest.raises(ValueError, match="one row a sample"):
        EmbeddingDataset(torch.zeros(3, 8), torch.zeros(2))
    with pytest.raises(ValueError, match="one row a sample"):
        EmbeddingDataset(torch.zeros(3, 8), torch.zeros(3), sources=torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    "setting",
    [
        {"cvar_alpha": 1.5},
        {"auc_margin": 0.0},
        {"auc_power": 0.5},
        {"cvar_weight": -0.1},
        {"sam_rho": -1.0},
        {"real_share": 1.0},
        {"source_balance": 1.1},
        {"source_balance": -0.1},
        {"cvar_over": "generators"},
        {"label_smoothing_factor": 1.0},
        {"text_dropout": 2.0},
        {"gradient_accumulation_steps": 2},
    ],
)
def test_arguments_refuse_values_out_of_range(tmp_path, setting):
    with pytest.raises(ValueError, match=f"`{next(iter(setting))}` must be"):
        arguments(tmp_path, **setting)
