"""What the second engine adds to TRL's trainer."""

from types import SimpleNamespace

from dpo_lite.training.trl_engine import TokensGoOn


def test_tokens_are_counted_over_all_sessions():
    """A run that goes on begins with the log of its checkpoint."""
    trainer = SimpleNamespace(_total_train_tokens=0)
    log = [{"loss": 0.7, "num_tokens": 30.0}, {"loss": 0.6, "num_tokens": 70.0}, {"eval_loss": 0.5}]
    TokensGoOn(trainer).on_train_begin(None, SimpleNamespace(log_history=log), None)
    assert trainer._total_train_tokens == 70
    TokensGoOn(trainer).on_train_begin(None, SimpleNamespace(log_history=[]), None)
    assert trainer._total_train_tokens == 0
