"""Recurrent layers and convolutions over a forest: as single rows through the unmodified model."""

import inspect
import sys
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from dpo_lite.data.packing import Tree, pad
from dpo_lite.model import hybrid_forest, tree_recurrence
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.forest import open_forest
from dpo_lite.model.hybrid_forest import missing_packages, torch_functions
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import lay_out, response_token_logps
from dpo_lite.model.tree_places import places
from dpo_lite.model.tree_recurrence import Unpadded, unpadded_agrees
from tests.model.small_models import CONVOLUTION, DELTA_RULE, HYBRID, STATE_SPACE, small_model

FAST = [next(iter(kinds)) for kinds in (DELTA_RULE, STATE_SPACE, CONVOLUTION)]


def adapted(kind):
    """LoRA with B != 0 on all linear layers that PEFT allows, so that every path is alive."""
    model = small_model(kind)
    head = model.get_output_embeddings()
    # PEFT refuses Mamba's output projection, which Mamba's fused kernels multiply by themselves.
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and "out_proj" not in name
    ]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets)
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert any(isinstance(module, LoraLayer) for module in peft_model.modules())
    return peft_model.train()


def trees_of(responses: int, seed=0):
    """Prompts of a token, of less than a kernel's width, and of several chunks of 16 and of 64."""
    draw = torch.Generator().manual_seed(seed)

    def ids(count):
        return torch.randint(3, 97, (count,), generator=draw).tolist()

    lengths = [5, 20, 1, 34]
    return [
        {"prompt_ids": ids(prompt), "response_ids": [ids(n) for n in lengths[:responses]]}
        for prompt in (70, 1, 2, 19)
    ]


def scored(model, batches, way):
    """Log-probabilities (N,), and the adapter's gradient of a smooth function of them."""
    model.zero_grad(set_to_none=True)
    found, seen = [], 0
    for batch in batches:
        with open_forest(model.get_base_model(), batch):
            logps = response_token_logps(model, batch, way)
            weights = torch.cos(torch.arange(seen, seen + len(logps)).float())
            (torch.tanh(logps / 5) * weights).sum().backward()
        found.append(logps.detach())
        seen += len(logps)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(found), torch.cat(gradients)


def alone(examples):
    """Every response in a batch of its own: the unmodified model, no padding."""
    return [
        pad([{"prompt_ids": e["prompt_ids"], "response_ids": [r]}])
        for e in examples
        for r in e["response_ids"]
    ]


def check(kind, responses, ways):
    model = adapted(kind)
    examples = trees_of(responses)
    truth, expected = scored(model, alone(examples), "plain")
    assert expected.norm() > 0
    for how in ways:
        recompute(model, how)
        logps, gradient = scored(model, [lay_out(examples, "forest")], "forest")
        assert (logps - truth).abs().max() < 1e-5, how
        assert (gradient - expected).norm() / expected.norm() < 1e-4, how


@pytest.mark.parametrize("responses", [1, 2, 4])
@pytest.mark.parametrize("kind", FAST)
def test_a_hybrid_forest_equals_single_rows(kind, responses):
    check(kind, responses, ["none", "layers"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAST)
def test_however_layers_are_recomputed(kind):
    check(kind, 2, ["selective", "layers", "offload"])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("responses", [1, 2, 4])
@pytest.mark.parametrize("kind", [kind for kind in HYBRID if kind not in FAST])
def test_every_family_equals_single_rows(kind, responses):
    check(kind, responses, ["none", "layers"])


@pytest.mark.parametrize("kind", FAST)
def test_hybrid_models_are_scored_in_the_forest(kind):
    choice = choose_way(small_model(kind), trees_of(2)[1:])
    assert choice.way == "forest", choice.reason


@pytest.mark.parametrize("kind", FAST)
def test_without_it_neighbours_mix(kind, monkeypatch):
    """The functions are what keeps the branches apart, not the size of the example."""
    model = adapted(kind)
    examples = trees_of(2)
    truth, _ = scored(model, alone(examples), "plain")
    monkeypatch.setattr(hybrid_forest, "_over_trees", lambda name, original, forest: original)
    logps, _ = scored(model, [lay_out(examples, "forest")], "forest")
    assert (logps - truth).abs().mean() > 1e-3


@pytest.mark.parametrize("kind", FAST)
def test_the_functions_are_given_back(kind):
    model = small_model(kind)
    module = sys.modules[type(model).__module__]
    before = dict(vars(module))
    batch = lay_out(trees_of(2), "forest")
    seen = []

    def fails():
        seen.append(module.causal_conv1d_fn)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_forest(model, batch):
        fails()
    assert seen != [before["causal_conv1d_fn"]]
    assert dict(vars(module)) == before
    with open_forest(model, lay_out(trees_of(2), "separate")):  # rows: nothing to keep apart
        assert dict(vars(module)) == before


def test_a_row_that_is_not_the_forest_is_not_taken_for_it():
    model = small_model("lfm2")
    with (
        open_forest(model, lay_out(trees_of(2), "forest")),
        pytest.raises(RuntimeError, match="a forest of"),
    ):
        model.model.layers[0](torch.zeros(2, 7, 64))


def test_groups_are_of_like_length_and_lose_no_token():
    trees = [Tree(0, 3, (2, 40, 0)), Tree(45, 100, (17,)), Tree(162, 16, (33, 1))]
    where = places(trees, torch.device("cpu"))
    length = trees[-1].stop
    row = torch.arange(1.0, length + 1)[None, :, None].expand(1, length, 2)
    groups = [*where.prompts, *where.responses]
    back = where.joined([group.collect(group.spread(row)) for group in groups])
    assert torch.equal(back, row)
    assert [(g.rows, g.width) for g in where.prompts] == [(2, 16), (1, 100)]
    assert [(g.rows, g.width) for g in where.responses] == [(3, 2), (1, 17), (2, 40)]
    short = where.prompts[0].spread(row)[:, :, 0]
    assert short[0].tolist() == [0.0] * 13 + [1, 2, 3]  # the state is read where it ends
    # Rows of prompts over all groups: trees 0, 2, 1.
    assert [g.parents.tolist() for g in where.responses] == [[0, 0, 1], [2], [0, 1]]
    for group in groups:
        used = len(group.slots) / (group.rows * group.width)
        assert used > 0.5 or group.width <= 16


def stand_in(original):
    """What flash-linear-attention's kernels do with ``cu_seqlens``, by PyTorch's function."""

    def kernel(q, k, v, g, beta, initial_state=None, cu_seqlens=None, **o):
        if cu_seqlens is None:
            return original(q, k, v, g=g, beta=beta, initial_state=initial_state, **o)
        outputs, states = [], []
        for n, (start, stop) in enumerate(pairwise(cu_seqlens)):
            x, y, u, decay, rate = (t[:, start:stop] for t in (q, k, v, g, beta))
            state = None if initial_state is None else initial_state[n : n + 1]
            output, state = original(x, y, u, g=decay, beta=rate, initial_state=state, **o)
            outputs.append(output)
            states.append(state)
        return torch.cat(outputs, 1), torch.cat(states)

    return kernel


@pytest.fixture
def qwen():
    return sys.modules[type(small_model("qwen3_5_text")).__module__]


def test_sequences_without_padding(monkeypatch, qwen):
    """The way for kernels: the same numbers, through a stand-in."""
    original = inspect.unwrap(qwen.torch_chunk_gated_delta_rule)
    monkeypatch.setattr(qwen, "torch_chunk_gated_delta_rule", stand_in(original))
    used = []
    monkeypatch.setattr(hybrid_forest, "may_go_unpadded", lambda *a, **k: used.append(1) or True)
    check("qwen3_5_text", 2, ["none", "layers"])
    assert used


def test_a_kernel_is_tried_before_it_is_used(qwen):
    sizes = ((2, 8), (4, 16), (4,))
    asked = (torch.device("cpu"), *[torch.float32] * 3, sizes, True)
    original = inspect.unwrap(qwen.torch_chunk_gated_delta_rule)
    kernel = stand_in(original)
    assert unpadded_agrees(kernel, *asked)
    # What transformers puts there without the package refuses.
    assert not unpadded_agrees(qwen.torch_chunk_gated_delta_rule, *asked)

    def mixes(*args, cu_seqlens=None, **options):
        if cu_seqlens is not None:
            cu_seqlens = cu_seqlens[[0, -1]]
            options["initial_state"] = None
        output, state = kernel(*args, cu_seqlens=cu_seqlens, **options)
        return output, state.expand(2, *state.shape[1:]) if len(state) == 1 else state

    def state_without_gradient(*args, initial_state=None, cu_seqlens=None, **options):
        if cu_seqlens is not None and initial_state is not None:
            initial_state = initial_state.detach()
        return kernel(*args, initial_state=initial_state, cu_seqlens=cu_seqlens, **options)

    def states_of_others(*args, cu_seqlens=None, **options):
        if cu_seqlens is not None and options.get("initial_state") is not None:
            options["initial_state"] = options["initial_state"].flip(0)
        return kernel(*args, cu_seqlens=cu_seqlens, **options)

    for wrong in (mixes, state_without_gradient, states_of_others):
        assert not unpadded_agrees(wrong, *asked), wrong.__name__

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):  # says nothing of the kernel
        unpadded_agrees(full, *asked)
    assert Unpadded([Tree(0, 2, (1, 3))], torch.device("cpu")).starts[1].tolist() == [0, 1, 4]
    assert not tree_recurrence.may_go_unpadded(kernel, *(torch.zeros(1, 3, 2, 8) for _ in range(4)))


def test_the_trial_runs_pytorchs_own_functions(qwen):
    model = small_model("qwen3_5_text")
    before = qwen.torch_chunk_gated_delta_rule
    with torch_functions(model):
        assert qwen.torch_chunk_gated_delta_rule is inspect.unwrap(before) is not before
    assert qwen.torch_chunk_gated_delta_rule is before


def test_what_would_make_it_faster():
    assert missing_packages(small_model("qwen3_5_text")) == [
        "causal-conv1d",
        "flash-linear-attention",
    ]
    assert missing_packages(small_model("granitemoehybrid")) == ["causal-conv1d", "mamba-ssm"]
    assert missing_packages(small_model("llama")) == []


def test_a_fused_kernel_without_boundaries_stays_out(monkeypatch):
    """mamba-ssm's training kernel, taken where it is installed, would run over the whole row."""
    model = small_model("granitemoehybrid")
    for part in model.modules():  # ours run as if they were used, which leaves that kernel out too
        vars(part)["training"] = True
    module = sys.modules[type(model).__module__]
    examples = trees_of(2)
    truth = torch.cat([response_token_logps(model, row, "plain") for row in alone(examples)])

    def fused(*args, **kwargs):
        raise AssertionError("the fused kernel ran")

    monkeypatch.setattr(module, hybrid_forest.FUSED, fused)
    with pytest.raises(AssertionError, match="fused"):
        response_token_logps(model, alone(examples)[0], "plain")
    batch = lay_out(examples, "forest")
    with open_forest(model, batch):
        assert (response_token_logps(model, batch, "forest") - truth).abs().max() < 1e-5
