"""Detectors with tiny random towers, with and without text."""

import pytest
import torch


@pytest.fixture(params=[False, True], ids=["pictures", "pictures and captions"])
def tiny_detector(request, tiny_config, tiny_tokenizer):
    from modeling import RobustClipForImageClassification, RobustClipImageProcessor
    from modeling.detector import Detector

    torch.manual_seed(0)
    model = RobustClipForImageClassification(tiny_config(text=request.param))
    return Detector(model, RobustClipImageProcessor(size=32), tiny_tokenizer if request.param else None, "tiny")
