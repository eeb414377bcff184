"""`export --to gguf`: what the levels did to a run's preference is measured, kept and told."""

import pytest
import torch

from dpo_lite.cli import main
from dpo_lite.errors import UserError
from dpo_lite.export.survived import Heard, Measured, Survival, warning
from dpo_lite.export.to_gguf import export_gguf
from dpo_lite.files import read_json
from dpo_lite.report.exports import lines
from tests.cats import write_cats
from tests.export.test_strength import untrained_run


def test_margins_and_kl_by_hand():
    """Two rows of two responses, beta 0.5: rewards of the first 0.5·(−1 + 2) and 0.5·(−5 + 4)."""
    even = torch.tensor([[0.5, 0.5]]).log()
    skew = torch.tensor([[0.75, 0.25]]).log()
    reference = Heard(torch.tensor([-2.0, -4.0, -3.0, -3.0]), even)
    policy = Heard(torch.tensor([-1.0, -5.0, -4.0, -3.0]), skew)
    held = Measured([{"response_ids": [[1], [2]]}] * 2, reference, policy, 0.5)
    found = held.of("q8_0", policy)
    assert found.margin == pytest.approx((1.0 - 0.5) / 2)
    assert (found.right, found.pairs, found.rows) == (1, 2, 2)
    by_hand = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert found.kl_from_reference == pytest.approx(by_hand.item(), abs=1e-6)
    assert found.kl_from_adapter == pytest.approx(0, abs=1e-6)
    single = Measured([{"response_ids": [[1]]}] * 4, reference, policy, 0.5)
    assert single.of("q8_0", policy).margin is None


def test_what_is_lost_is_told():
    def survival(name="q4_0", margin=1.0, right=60, kl=0.2, drift=0.01):
        return Survival(name, 64, kl, drift, margin, right, 64)

    adapter = survival("adapter", drift=0.0)
    assert warning(adapter, survival(margin=0.9)) is None
    assert "q4_0: the preference is lost in part" in warning(adapter, survival(margin=0.4))
    assert "lost in part" in warning(adapter, survival(right=30))
    assert "further than the training" in warning(adapter, survival(drift=0.3))
    assert "a level with more bits" in warning(adapter, survival(margin=0.4))
    merged = warning(adapter, survival("merged", margin=0.4))
    assert "level" not in merged  # it has none
    assert "16 bits" in merged


@pytest.mark.slow
def test_a_run_as_files(tiny_base, tmp_path, capsys):
    write_cats(tmp_path, train=range(4), test=range(4, 10))
    data = {"train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "test.jsonl")}
    run = untrained_run(tmp_path / "runs" / "a", tiny_base, data=data)
    done = export_gguf(run, tmp_path / "out", "f32,q4_k_m")
    assert [file.name for file in done.files] == ["a-F32.gguf", "a-Q4_K_M.gguf"]
    assert sorted(p.name for p in tmp_path.glob("out/*")) == ["Modelfile", *map(_name, done.files)]
    assert "FROM ./a-Q4_K_M.gguf" in (tmp_path / "out" / "Modelfile").read_text()
    (kept,) = read_json(run.path / "exports.json")["exports"]
    adapter, merged, whole, small = kept["survival"]
    assert [one["name"] for one in kept["survival"]] == ["adapter", "merged", "f32", "q4_k_m"]
    assert adapter["kl_from_adapter"] == 0
    assert abs(merged["margin"] - adapter["margin"]) < 1e-3
    assert whole["kl_from_adapter"] == pytest.approx(merged["kl_from_adapter"], abs=1e-7)
    assert 1e-6 < small["kl_from_adapter"] < adapter["kl_from_reference"]
    assert kept["rows"] == 6
    assert any(line.startswith("| q4_k_m | 0 MiB |") for line in lines(run))
    with pytest.raises(UserError, match="exists"):
        export_gguf(run, tmp_path / "out", "f32")
    assert not list(tmp_path.glob(".out*"))
    with pytest.raises(SystemExit):
        main(["export", "a", "--to", "gguf", "--strength", "2", "--runs", str(tmp_path / "runs")])
    assert "no other kind has it" in " ".join(capsys.readouterr().err.split())


def _name(path):
    return path.name
