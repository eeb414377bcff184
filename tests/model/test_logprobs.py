"""The frozen head's gradient, computed in the forward pass, against plain autograd."""

import pytest
import torch
import torch.nn.functional as F

from dpo_lite.model import logprobs
from dpo_lite.model.logprobs import Head, sum_by_response, token_logps


def plain(hidden, target, head):
    logits = F.linear(hidden, head.weight, head.bias) * head.scale
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 200, 10**6])
def test_equals_autograd(monkeypatch, softcap, scale, bias, chunk):
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    head = Head(torch.randn(50, 16), torch.randn(50) if bias else None, scale, softcap)
    hidden = torch.randn(11, 16, requires_grad=True)
    target = torch.randint(50, (11,))
    weights = torch.randn(11)  # any upstream gradient, different for every token
    expected = plain(hidden, target, head)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), hidden)
    found = token_logps(hidden, target, head)
    (got,) = torch.autograd.grad((found * weights).sum(), hidden)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(got, wanted, atol=1e-5)


def test_nothing_is_kept_without_grad():
    head = Head(torch.randn(50, 16), None)
    with torch.no_grad():
        found = token_logps(torch.randn(3, 16, requires_grad=True), torch.tensor([1, 2, 3]), head)
    assert found.grad_fn is None


def test_bf16_scores_in_fp32():
    head = Head(torch.randn(50, 16).bfloat16(), None)
    hidden = torch.randn(3, 16).bfloat16().requires_grad_()
    found = token_logps(hidden, torch.tensor([1, 2, 3]), head)
    assert found.dtype == torch.float32
    found.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
    expected = plain(hidden.float(), torch.tensor([1, 2, 3]), Head(head.weight.float(), None))
    assert torch.allclose(found, expected, atol=0.05)


def test_sums_by_response():
    logps = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert sum_by_response(logps, torch.tensor([0, 1, 1, 2]), 3).tolist() == [1.0, 6.0, 8.0]
