"""Batches of scores, and values with gradients, for the tests of the losses."""

import torch


def random_batch(seed, size=40, share=0.3, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(size, generator=generator) < share).long()
    labels[:2] = torch.tensor([0, 1])
    scores = torch.randn(size, generator=generator, dtype=torch.float64) * scale + labels
    return scores.to(dtype), labels


def value_and_gradient(function, scores, *arguments, **settings):
    scores = scores.clone().requires_grad_()
    value = function(scores, *arguments, **settings)
    value.backward()
    return value.detach(), scores.grad
