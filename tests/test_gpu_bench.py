"""bench/gpu.py on the CPU with a tiny model: its code runs, and finds the CPU equal to itself."""

import copy
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from bench import gpu


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    gpu.main()
    return capsys.readouterr().out


def test_the_cpu_is_right_beside_itself(monkeypatch, capsys):
    printed = run(monkeypatch, capsys, "--device", "cpu", "--tiny")
    assert "fp32 beside fp32 on the CPU: embeddings 0.0e+00 apart, right" in printed
    assert "a step with SAM beside the CPU's: 0.0e+00 of its length apart, right" in printed
    (bf16,) = re.findall(r"bf16 beside fp32 on the CPU: embeddings (\S+) apart", printed)
    assert 1e-4 < float(bf16) < 0.1
    assert len(re.findall(r"pictures/s, \S+ TFLOP/s, \d+\.\d\d of the peak", printed)) == 2  # fp32 and bf16
    assert re.search(r"a step with SAM and AdamW, \d+ parameters, batch 16: .* of the peak", printed)


def test_a_wrong_device_is_called_wrong(monkeypatch, capsys):
    """As if the device computed another function: a layer of the copy that goes there is larger by 1 %."""

    def changed(model):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.backbone.vision_tower.visual_projection.weight.mul_(1.01)
        return other

    monkeypatch.setattr(gpu, "copy", SimpleNamespace(deepcopy=changed))
    model = gpu.RobustClipForImageClassification(gpu.RobustClipConfig(vision_config=dict(gpu.TINY.towers["tiny"])))
    gpu.compare_detector(model.eval(), ["fp32"], gpu.TINY, torch.device("cpu"))
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_cuda_one_line_says_so(monkeypatch, capsys):
    assert run(monkeypatch, capsys) == "skipped: no CUDA device (--device cpu --tiny tries the script without one)\n"


def test_work_is_counted_from_the_shapes():
    left, right = torch.randn(4, 8), torch.randn(8, 16)
    assert gpu.operations(lambda: left @ right) == 2 * 4 * 8 * 16
