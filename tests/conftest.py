"""Small models built from their configs: the same code paths as the real ones, in milliseconds."""

import gc
import os
from functools import cache
from pathlib import Path

from dpo_lite.files import cache_folder
from dpo_lite.quiet import quiet_libraries

quiet_libraries()
# One thread, here and in processes that tests start: models this small only wait for a second one,
# and where another program wants the core as well, they wait many times as long as they compute.
os.environ["OMP_NUM_THREADS"] = "1"
gc.disable()  # while all is imported; see pytest_collection_finish

import pytest  # noqa: E402
import torch  # noqa: E402

# Where scripts/real_*.py put what they bring: looked up before the tests get a cache of their own.
REAL = Path(os.environ.get("DPO_LITE_REAL") or cache_folder())
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


PROCESSES = 4  # at most; each takes a gigabyte of memory


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config):
    """The whole suite runs on several cores, file by file; files that are named, in one process."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not config.pluginmanager.hasplugin("xdist") or not whole or hasattr(config, "workerinput"):
        return
    if config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses = min(os.cpu_count() or 1, PROCESSES)
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """What waits for a browser comes first, so that nothing waits for it alone at the end."""
    items.sort(key=lambda item: not item.get_closest_marker("browser"))


def pytest_collection_finish():
    """What was imported stays: a collector that walks over it takes an eighth of the time."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True)
def deterministic():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Encoded data of the tests stay out of the user's cache."""
    os.environ["DPO_LITE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def no_curves():
    """Runs in this process draw no curves.png: it takes longer than so small a run's training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpo_lite.report.run.draw_curves", lambda run: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_built_once():
    """Typer builds all commands anew for each call of ``main``, which takes longer than most do."""
    from typer import main as typer_main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer_main, "get_command", cache(typer_main.get_command))
        yield


@pytest.fixture
def curves(monkeypatch):
    """For a test that looks at curves.png."""
    from dpo_lite.report.curves import draw_curves

    monkeypatch.setattr("dpo_lite.report.run.draw_curves", draw_curves)


@pytest.fixture(scope="session")
def chat_tokenizer():
    """A byte-level tokenizer of 300 tokens with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(["the cat sat on the mat and the dog sat on the cat"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, chat_tokenizer):
    """A folder with a small Llama and its tokenizer, as a user's local base."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(chat_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    chat_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def hh_file():
    """The real HH-RLHF file, where the machine has it."""
    folder = os.environ.get("DPO_LITE_TEST_DATA")
    path = Path(folder or "") / "hh-rlhf-harmless-base-test.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip("DPO_LITE_TEST_DATA names no folder with the HH-RLHF file")
    return path


@pytest.fixture(scope="session")
def real_tokenizer():
    """A published model's tokenizer by its name, where the machine has it."""
    from transformers import AutoTokenizer

    @cache
    def load(name):
        folder = REAL / "tokenizers" / name
        if not (folder / "tokenizer.json").is_file():
            pytest.skip(
                f"no {name} in {folder.parent}: python scripts/real_tokenizers.py brings it"
            )
        return AutoTokenizer.from_pretrained(folder)

    return load


@pytest.fixture(scope="session")
def real_model():
    """The folder of a small instruct model, where the machine has it."""
    folder = REAL / "models" / "SmolLM2-135M-Instruct"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no {folder}: python scripts/real_model.py brings it")
    return str(folder)
