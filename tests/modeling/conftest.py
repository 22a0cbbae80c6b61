"""Detectors with tiny random towers, with and without text."""

import pytest
import torch
from transformers import CLIPTokenizer


@pytest.fixture(params=[False, True], ids=["pictures", "pictures and captions"])
def tiny_detector(request, tiny_config):
    from modeling import RobustClipForImageClassification, RobustClipImageProcessor
    from modeling.detector import Detector

    torch.manual_seed(0)
    model = RobustClipForImageClassification(tiny_config(text=request.param))
    # The special tokens where the tiny text tower expects them.
    vocab = {
        word: number for number, word in enumerate([*"abcdefghij", *(f"{letter}</w>" for letter in "abcdefghij")])
    }
    vocab |= {"<|startoftext|>": 98, "<|endoftext|>": 99}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=10)
    return Detector(model, RobustClipImageProcessor(size=32), tokenizer if request.param else None, "tiny")
