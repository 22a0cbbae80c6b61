"""RobustTrainer against hand-made steps, on tiny models."""

import copy

import pytest
import torch

from train.arguments import RobustTrainingArguments
from train.losses import robust_loss
from train.trainer import EmbeddingDataset, RobustTrainer, collate_batch, compute_metrics, score_embeddings


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "max_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
    }
    return RobustTrainingArguments(**(settings | changes))


def embeddings(rows=32, text=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    image = torch.randn(rows, 8, generator=generator) + labels[:, None]
    return EmbeddingDataset(image, labels, torch.randn(rows, 8, generator=generator) if text else None)


def trainer(model, folder, dataset=None, **changes):
    return RobustTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=dataset or embeddings(),
        data_collator=collate_batch,
        compute_metrics=compute_metrics,
    )


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
    assert {"loss", "cvar", "auc_loss"} <= set(run.state.log_history[0])


def test_a_loss_that_is_not_finite_stops_the_training(tiny_model, tmp_path):
    dataset = embeddings()
    dataset.tensors["image_embeds"][3] = float("nan")
    with pytest.raises(FloatingPointError, match="at step 0"):
        trainer(tiny_model, tmp_path, dataset, per_device_train_batch_size=32).train()


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


def test_rows_must_match():
    with pytest.raises(ValueError, match="one row a sample"):
        EmbeddingDataset(torch.zeros(3, 8), torch.zeros(2))


@pytest.mark.parametrize(
    "setting",
    [
        {"cvar_alpha": 1.5},
        {"auc_margin": 0.0},
        {"auc_power": 0.5},
        {"cvar_weight": -0.1},
        {"sam_rho": -1.0},
        {"text_dropout": 2.0},
        {"gradient_accumulation_steps": 2},
    ],
)
def test_arguments_refuse_values_out_of_range(tmp_path, setting):
    with pytest.raises(ValueError, match=f"`{next(iter(setting))}` must be"):
        arguments(tmp_path, **setting)
