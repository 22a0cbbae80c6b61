"""Pushing from training: `RobustTrainer` and `fit --push_to_hub` publish what `python -m train publish` publishes."""

import pytest
from huggingface_hub import ModelCard

from train.arguments import RobustTrainingArguments

NAME = "ann/detector"
LOADABLE = {
    ".gitattributes",
    "README.md",
    "colour_robust_clip.py",
    "srgb_robust_clip.py",
    "config.json",
    "configuration_robust_clip.py",
    "image_processing_robust_clip.py",
    "model.safetensors",
    "modeling_robust_clip.py",
    "preprocessor_config.json",
}

# argv: output folder. Saves at steps 1 and 2, and pushes at each save and at the end.
TRAIN = """
import sys
import torch
from modeling import RobustClipConfig, RobustClipForImageClassification, RobustClipImageProcessor
from tests.tiny import VISION
from train.arguments import RobustTrainingArguments
from train.embedding_dataset import EmbeddingDataset, collate_batch
from train.trainer import RobustTrainer

torch.manual_seed(0)
trainer = RobustTrainer(
    model=RobustClipForImageClassification(RobustClipConfig(vision_config=dict(VISION))),
    args=RobustTrainingArguments(
        output_dir=sys.argv[1], max_steps=2, per_device_train_batch_size=8, save_strategy="steps", save_steps=1,
        push_to_hub=True, hub_model_id="ann/detector", disable_tqdm=True,
    ),
    train_dataset=EmbeddingDataset(torch.randn(16, 8), torch.arange(16) % 2),
    data_collator=collate_batch,
    processing_class=RobustClipImageProcessor(size=32),
)
trainer.train()
print(trainer.push_to_hub("The end").oid)
"""


def test_the_trainer_pushes_whole_models_and_neither_pickle_nor_stub(hub, python, tmp_path):
    result = python.run("-c", TRAIN, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "training_args.bin").is_file()  # what a stock push would have taken along
    repo = hub.models[NAME]
    assert repo.private
    made = repo.commits[1:]
    # The end is the model of step 2 again, with nothing to commit but what differs.
    assert [commit.message for commit in made][:2] == [
        "Training in progress, step 1",
        "Training in progress, step 2",
    ]
    assert all(set(commit.files) == LOADABLE for commit in made)
    assert made[0].files["model.safetensors"] != made[1].files["model.safetensors"]
    assert result.stdout.splitlines()[-1] == made[-1].oid
    card = repo.files["README.md"].decode()
    assert "generated_from_trainer" not in card
    assert "was not measured" in card
    assert f'model="{NAME}"' in card
    assert "was not measured" in (tmp_path / "out" / "README.md").read_text()


def test_fit_pushes_the_calibrated_model_with_its_figures(hub, train, parquet, backbone, tmp_path):
    bank, output = tmp_path / "bank", tmp_path / "out"
    call = ("features", "--data", parquet, "--backbone", backbone, "--views", 1, "--output", bank)
    result = train(*call)
    assert result.returncode == 0, result.stderr
    fit = ("fit", "--bank", bank, "--output_dir", output, "--max_steps", 40, "--learning_rate", 1e-2)
    fit += ("--per_device_train_batch_size", 64, "--folds", 3, "--push_to_hub")
    assert "`push_to_hub` needs `hub_model_id`" in train(*fit).stderr
    result = train(*fit, "--hub_model_id", NAME)
    assert result.returncode == 0, result.stderr
    (commit,) = hub.models[NAME].commits[1:]  # not one for each held-out source
    assert set(commit.files) == LOADABLE | {"evaluation.json", "expected_scores.json", "known_data.safetensors"}
    for name in ("config.json", "model.safetensors", "evaluation.json"):
        assert commit.files[name] == (output / name).read_bytes()
    card = commit.files["README.md"].decode()
    assert {result.metric_type for result in ModelCard(card).data.eval_results} >= {"roc_auc", "recall"}
    before, _, rest = card.partition("<!-- use:")
    assert before + rest.partition("<!-- end of use -->\n\n")[2] == (output / "README.md").read_text()


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_training_state_is_not_pushed(strategy, tmp_path):
    with pytest.raises(ValueError, match=f"`hub_strategy` must be end or every_save, got {strategy}"):
        RobustTrainingArguments(output_dir=str(tmp_path), hub_strategy=strategy)
