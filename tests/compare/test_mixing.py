"""The strength dial: its ends are the two models, and between them the distribution is exact."""

import pytest
import torch

from dpo_lite.cli import main
from dpo_lite.compare.columns import columns, mixture
from dpo_lite.compare.dial import asked, dial
from dpo_lite.compare.lockstep import Sampling, answer
from dpo_lite.compare.mixing import Mix, Mixer, divergence, mixed
from dpo_lite.compare.shared_base import ask, load_shared_base
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.model import roles
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.scoring import causal_lm
from tests.compare.test_lockstep import PROMPT, make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder, name, seed) for seed, name in enumerate(["one", "two"])}


@pytest.fixture(scope="module")
def base(runs):
    return load_shared_base(runs["one"])


def test_the_mixture_is_that_of_the_log_probabilities():
    """log pi_s = (1 - s) log pi_ref + s log pi - log Z, worked out for two tokens and for many."""
    policy, reference = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    # Odds of 9 : 1 and 1 : 1 make 3 : 1 halfway, the geometric mean, and 81 : 1 at strength 2.
    assert mixed(policy, reference, 0.5).softmax(-1)[0].item() == pytest.approx(3 / 4)
    assert mixed(policy, reference, 2.0).softmax(-1)[0].item() == pytest.approx(81 / 82)
    policy, reference = torch.randn(2, 50).double()
    for strength in (0.0, 0.3, 1.0, 1.7):
        by_hand = policy.softmax(-1) ** strength * reference.softmax(-1) ** (1 - strength)
        by_hand /= by_hand.sum()
        assert torch.allclose(mixed(policy, reference, strength).softmax(-1), by_hand, atol=1e-12)


def test_its_ends_are_bit_by_bit_the_two():
    policy, reference = 30 * torch.randn(2, 1000)
    assert torch.equal(mixed(policy, reference, 1.0), policy)
    assert torch.equal(mixed(policy, reference, 0.0), reference)


def test_what_one_of_them_rules_out_stays_out():
    policy, reference = torch.tensor([0.0, -torch.inf, 1.0]), torch.tensor([0.0, 2.0, -torch.inf])
    for strength in (0.5, 1.0, 3.0):
        found = mixed(policy, reference, strength)
        assert found.tolist() == [0.0, -torch.inf, -torch.inf]
        assert divergence(found, found).item() == 0


def test_its_divergence_is_that_of_the_whole_distribution():
    own, other = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    by_hand = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert divergence(own.log(), other.log()).item() == pytest.approx(by_hand.item())


def test_both_rows_of_a_pair_get_the_same():
    scores = torch.randn(4, 9)
    mixer = Mixer([(1, 2, 0.5)])
    found = mixer(torch.zeros(4, 1), scores)
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[1], mixed(scores[1], scores[2], 0.5))
    assert torch.equal(found[[0, 3]], scores[[0, 3]])
    assert len(mixer.moved) == 1


def said(base, names, **sampling):
    encoder = Encoder(base.tokenizer)
    ids = encoder.prompt_ids(PROMPT)
    options = Sampling(max_new_tokens=16, **sampling)
    return answer(base.model, base.tokenizer, ids, names, [encoder.end_id], options)


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 1.0, "seed": 3}, {"repetition_penalty": 1.3}]
)
def test_strength_1_is_the_policy_and_0_the_reference(base, sampling):
    """Also beside other columns, and where the formula is computed and not passed over."""
    full, none = (Mix(roles.POLICY, BASE, strength) for strength in (1.0, 0.0))
    policy, mixed_1, mixed_0, reference = said(base, [roles.POLICY, full, none, BASE], **sampling)
    assert mixed_1.ids == policy.ids
    assert mixed_0.ids == reference.ids
    assert policy.ids != reference.ids
    assert mixed_0.moved == 0
    assert mixed_1.moved > 0
    assert policy.moved is None


def test_columns_at_the_ends_are_the_models_themselves(runs, base):
    run = runs["one"]
    names = ["policy", "policy@1", "reference", "policy@0", "one@0.5", "two@0.5"]
    wanted = columns(run, names, run.path.parent)
    labels = [column.label for column in wanted]
    assert labels == ["one", "one@1", "reference", "one@0", "one@0.5", "two@0.5"]
    prints = [column.fingerprint for column in wanted]
    assert prints[0] == prints[1]
    assert prints[2] == prints[3]
    assert len(set(prints)) == 4
    texts = [a.text for a in ask(base, run, wanted, PROMPT, Sampling(max_new_tokens=16))]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert texts[0] != texts[2]
    # A column's label is its name as well: the page asks by labels.
    again = columns(run, [column.label for column in wanted], run.path.parent)
    assert [column.fingerprint for column in again] == prints


def test_between_the_ends_each_token_is_that_of_the_mixture(base):
    """Against whole forward passes of one model after the other, token by token; and the KL."""
    (found,) = said(base, [Mix(roles.POLICY, BASE, 0.4)])
    ids = Encoder(base.tokenizer).prompt_ids(PROMPT)
    moved = 0.0
    with torch.no_grad():
        for token in found.ids:
            logits = []
            for role in (roles.policy, roles.reference):
                with role(base.model):
                    text = torch.tensor([ids])
                    logits.append(causal_lm(base.model)(input_ids=text).logits[0, -1].double())
            policy, reference = (row.log_softmax(-1) for row in logits)
            blend = (0.4 * policy + 0.6 * reference).log_softmax(-1)
            assert token == blend.argmax().item()
            moved += (blend.exp() * (blend - reference)).sum().item()
            ids = [*ids, token]
    assert found.moved == pytest.approx(moved, abs=1e-4)


def test_adapters_that_cannot_share_a_pass_are_refused(base, monkeypatch):
    monkeypatch.setattr("dpo_lite.compare.lockstep.together", lambda model, names: False)
    with pytest.raises(UserError, match="needs both in one forward pass"):
        said(base, [Mix(roles.POLICY, BASE, 0.4)])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("policy@much", "over 1, the policy, to 10, not 'much'"),
        ("policy@-1", "A strength is a number from 0"),
        ("policy@nan", "A strength is a number from 0"),
        ("policy@11", "A strength is a number from 0"),
        ("policy@", "A strength is a number from 0"),
        ("reference@0.5", "A strength is of a policy"),
        ("nobody@0.5", "There is no run nobody"),
    ],
)
def test_what_is_no_strength_is_one_sentence(runs, name, said):
    run = runs["one"]
    with pytest.raises(UserError, match=said) as caught:
        columns(run, [name], run.path.parent)
    assert "\n" not in str(caught.value)


def test_the_dial_pays_more_kl_for_more_strength(runs, base):
    run = runs["one"]
    assert asked(run) == [PROMPT]
    points = dial(base, run, [0.0, 0.5, 1.0], max_new_tokens=8)
    assert [point.answers for point in points] == [2, 2, 2]
    assert points[0].kl == 0
    assert points[0].kl < points[1].kl < points[2].kl
    assert points[0].reward < 0 < points[2].reward  # E_ref[log pi/pi_ref] is -KL(ref || pi)
    reference, policy = columns(run, ["reference", "policy"])
    assert mixture(reference, policy, 1.0).between == (reference, policy)


@pytest.mark.slow
def test_the_terminal_shows_strengths_and_the_dial(runs, capsys):
    run = runs["one"]
    given = ["compare", str(run.path), "--no-reference", "--no-policy", "--max-new-tokens", "4"]
    with pytest.raises(SystemExit) as end:
        main([*given, "--strength", "0.5, 1", "--strength", "2"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("one")]
    assert names == ["one@0.5", "one@1", "one@2"]
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run.path), "--dial", "--strength", "0,1", "--max-new-tokens", "4"])
    assert end.value.code == 0
    assert "of 2 answers at each strength" in capsys.readouterr().out
    points = read_json(run.path / "dial.json")["points"]
    assert [point["strength"] for point in points] == [0, 1]
    assert (run.path / "dial.png").stat().st_size > 5000
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run.path), "--dial", "--blind"])
    assert end.value.code == 1
    assert "leave --blind" in " ".join(capsys.readouterr().err.split())
