"""Load the frozen base model and its tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    dynamic_module_utils,
)
from transformers.utils.hub import LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE, cached_file

from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.model import brought
from dpo_lite.model.adapter_files import adapter_folder
from dpo_lite.model.brought import check_brought
from dpo_lite.model.chance import disable_dropout
from dpo_lite.model.cpu_kernels import unpack_rightly
from dpo_lite.model.experts import use_own_products
from dpo_lite.model.four_bits import our_loaders
from dpo_lite.model.fused_modules import fuse_modules
from dpo_lite.model.known_layers import make_known
from dpo_lite.model.load_faults import LOAD_FAULTS, damaged_files, load_fault
from dpo_lite.model.suited import check_suited, check_whole
from dpo_lite.model.tensor_files import refuse_pointers
from dpo_lite.model.text_model import published_class, without_towers
from dpo_lite.names import is_public
from dpo_lite.recipe import ModelSection

# transformers asks on the terminal whether code that comes with a model may run, where it is not
# told. It is told by the recipe; what is forgotten here must fail and not ask.
dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0

BUILTIN = "builtin:"
_on_the_host = ContextVar("_on_the_host", default=False)
BUILTIN_FOLDER = Path(__file__).resolve().parent.parent / "builtin"


def base_location(base: str) -> str:
    """Return what transformers loads for ``model.base``: a folder, or the Hub id as it is."""
    if base.startswith(BUILTIN):
        folder = BUILTIN_FOLDER / base.removeprefix(BUILTIN)
        if not (folder / "config.json").is_file():
            names = ", ".join(
                f"{BUILTIN}{p.parent.name}" for p in BUILTIN_FOLDER.glob("*/config.json")
            )
            raise UserError(f"model.base: there is no {base}; the builtin bases are {names}.")
        return str(folder)
    path = Path(base)
    if path.is_dir() and not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise UserError(
                f"model.base: {base} is an adapter; set model.adapter={base}, and model.base to "
                "the model that it is for."
            )
        raise UserError(f"model.base: {base} has no config.json; give a folder that holds a model.")
    looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if looks_local and not path.is_dir():
        raise UserError(f"model.base: there is no folder {base}; check the path.")
    return base


def compute_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the card has it of its own, fp16 on Volta and Turing (T4, 20 series), else fp32.

    Cards before Ampere would emulate bf16, which is slow. fp16 needs a scale for its gradients
    (dpo_lite.training.loss_scale); adapters and what is summed up are fp32 in any case.
    """
    if device.type != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability(device)[0] >= 7 else torch.float32


def load_tokenizer(section: ModelSection) -> PreTrainedTokenizerBase:
    """The base's tokenizer; where it has no chat template, with that of the adapter to continue.

    A bare base mostly has none, and the adapter that taught it to chat brings the one it learned.
    Checkpoints that also see may keep theirs in a file of the processor of pictures.
    """
    tokenizer = _load(AutoTokenizer, section)
    if not tokenizer.chat_template:
        tokenizer.chat_template = _processor_template(section)
    if not tokenizer.chat_template and section.adapter:
        # An adapter without a tokenizer changes nothing: the missing template is told later.
        with contextlib.suppress(OSError, ValueError, UserError):
            folder = adapter_folder(section.adapter)
            tokenizer.chat_template = _adapter_template(folder)
    return tokenizer


def _adapter_template(folder: Path) -> str | None:
    """That of an adapter's tokenizer. Consent is to the base's code, never to an adapter's."""
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False).chat_template


def another_template(tokenizer, adapter: str) -> bool:
    """Whether an adapter brings a chat template other than the one in use, which it may have been
    trained with. Its files are read, and nothing in them is run."""
    folder, own = adapter_folder(adapter), None
    file = folder / "chat_template.jinja"
    if file.is_file():
        own = file.read_text(encoding="utf-8", errors="replace")
    else:
        with contextlib.suppress(ValueError, OSError):
            own = (read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    used = tokenizer.chat_template
    return isinstance(own, str) and isinstance(used, str) and own.strip() != used.strip()


def save_own_template(tokenizer, section: ModelSection, folder: Path) -> None:
    """Save the tokenizer beside an adapter whose chat template is not the base's."""
    if section.adapter is None and tokenizer.chat_template != _processor_template(section):
        return  # else only the adapter to continue, or the processor, brings a template
    if tokenizer.chat_template != _load(AutoTokenizer, section).chat_template:
        tokenizer.save_pretrained(str(folder))


def _processor_template(section: ModelSection) -> str | None:
    """The chat template of a base's processor, of which its tokenizer knows nothing."""
    file = cached_file(
        base_location(section.base),
        LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE,
        revision=section.revision or "main",
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return (read_json(Path(file)) or {}).get("chat_template") if file else None


def true_base(section: ModelSection) -> str | None:
    """The model that a quantised base is a copy of, where its config.json names it."""
    values, _ = PreTrainedConfig.get_config_dict(
        base_location(section.base), revision=section.revision or "main"
    )
    original = values.get("_name_or_path")
    if not values.get("quantization_config") or not original or original == section.base:
        return None
    return original if is_public(original) else None


def load_config(section: ModelSection):
    """The base's configuration alone: a few kilobytes, no weights.

    Raises UserError where it is not that of a language model.
    """
    config = _load(AutoConfig, section)
    check_suited(section.base, config)
    check_brought(section.base, config)
    return config


def position_limit(config) -> int | None:
    """The longest sequence that the base has positions for; None where it names no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


@contextlib.contextmanager
def on_the_host() -> Iterator[None]:
    """In here a base is loaded into the host's memory, in the device's numbers."""
    before = _on_the_host.set(True)
    try:
        yield
    finally:
        _on_the_host.reset(before)


def load_base(section: ModelSection, device: torch.device | None = None) -> PreTrainedModel:
    """Load the frozen base: NF4 with double quantisation, or 16-bit (fp32 on a CPU).

    Parts that bitsandbytes leaves alone (embeddings, norms, head) take the compute dtype; nothing
    is cast to fp32 behind the user's back, and ``prepare_model_for_kbit_training`` is not used.
    """
    unpack_rightly()
    device = device or compute_device()
    dtype = compute_dtype(device)
    place = torch.device("cpu") if _on_the_host.get() else device
    options = {"dtype": dtype, "device_map": {"": place}, "use_safetensors": True}
    config = load_config(section)
    files = brought.method(config)
    if files == brought.FP8 and section.quantization == "none":
        options["quantization_config"] = FineGrainedFP8Config(dequantize=True)
    elif files in (None, brought.FP8) and section.quantization == "nf4":
        if files:
            del config.quantization_config  # else transformers takes that for what is asked for
            options["config"] = config
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    published = published_class(config)
    if published is None:
        kind = AutoModelForCausalLM
    else:
        kind, options["config"] = without_towers(published), config
    with our_loaders(from_fp8=files == brought.FP8):
        model, read = _load(kind, section, output_loading_info=True, **options)
    if files in (None, brought.FP8):
        check_whole(section.base, set(read["missing_keys"]))
    return as_trained(model)


def as_trained(model: PreTrainedModel) -> PreTrainedModel:
    """A model as it was loaded, made the frozen base that is trained on."""
    make_known(model)
    use_own_products(model)
    keep_cpu_gradients_right(model)
    disable_dropout(model)
    model.requires_grad_(False)
    fuse_modules(model)
    model.config.use_cache = False
    if hasattr(model.config, "rescale_every"):
        # RWKV halves weights where it answers and doubles them where it learns, against fp16's
        # range, which is never used here; of packed ones it would double the bytes.
        model.config.rescale_every = 0
    return model


def keep_cpu_gradients_right(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking its 4-bit weights on AVX512-BF16 CPUs.

    A ``Linear4bit`` that runs once in eval mode without grad rewrites its weight for a kernel that
    has no backward formula; every gradient after that is silently wrong (relative error 0.74).
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def count_4bit(model: torch.nn.Module) -> int:
    """The number of linear layers held in 4 bits."""
    import bitsandbytes as bnb

    return sum(isinstance(module, bnb.nn.Linear4bit) for module in model.modules())


def _load(kind, section: ModelSection, **options):
    location = base_location(section.base)
    if Path(location).is_dir():
        refuse_pointers(Path(location), "model.base")
    try:
        return kind.from_pretrained(
            location,
            revision=section.revision or "main",
            trust_remote_code=section.trust_remote_code,
            **options,
        )
    except Exception as error:
        # Of no class of its own are all the faults that tokenizers tells.
        if not isinstance(error, LOAD_FAULTS) and type(error) is not Exception:
            raise
        raise UserError(damaged_files(location) or load_fault(section, error)) from error
