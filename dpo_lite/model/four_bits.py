"""Which weights of a base are held in 4 bits: bitsandbytes' linear layers, and the experts too.

bitsandbytes' loader packs modules that are linear layers; the experts of a mixture, most of its
weights, are parameters of three dimensions and would stay in 16 bits. Here its loader is told that
they are to be packed as well. transformers reads, converts and packs one parameter after the other,
so that no more than one of them is unpacked in memory.

A linear layer whose weight the model's own code reads (``self.layer.weight``) must stay as it is:
read so, a packed weight is bytes.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from bitsandbytes.nn import Params4bit
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name, should_convert_module
from transformers.utils.quantization_config import FineGrainedFP8Config

from dpo_lite.model import brought, mxfp4
from dpo_lite.model.experts import BLOCK, can_pack, expert_modules, expert_parameters, shape_of
from dpo_lite.model.known_layers import make_known

LOADER = "bitsandbytes_4bit"  # transformers' name for what is replaced


@contextmanager
def our_loaders(from_fp8: bool = False) -> Iterator[None]:
    """Inside, transformers' 4-bit loading packs experts as well, and leaves MXFP4 packed.

    ``from_fp8``: what it packs are the numbers that FP8 weights of the files stand for.
    """
    ours = {LOADER: _LoaderFromFP8 if from_fp8 else _Loader, mxfp4.LOADER: mxfp4.Loader}
    before = {name: AUTO_QUANTIZER_MAPPING[name] for name in ours}
    AUTO_QUANTIZER_MAPPING.update(ours)
    try:
        yield
    finally:
        AUTO_QUANTIZER_MAPPING.update(before)


class _Loader(Bnb4BitHfQuantizer):
    """bitsandbytes' loader of transformers, for experts as well, but for what must stay."""

    def _process_model_before_weight_loading(self, model, *arguments, **options) -> None:
        if not self.pre_quantized:  # else the files hold what was packed without us
            make_known(model)
        super()._process_model_before_weight_loading(model, *arguments, **options)

    def param_needs_quantization(self, model, param_name: str, **options) -> bool:
        return _is_packable_expert(model, param_name) or super().param_needs_quantization(
            model, param_name, **options
        )

    def get_modules_to_not_convert(self, model, *arguments, **options) -> list[str]:
        listed = Bnb4BitHfQuantizer.get_modules_to_not_convert(model, *arguments, **options)
        return [*listed, *read_elsewhere(model)]

    def get_quantize_ops(self):
        return _Pack(self)


class _LoaderFromFP8(_Loader):
    """The same for files in FP8: a weight is unpacked with its scales before it is packed."""

    def update_weight_conversions(self, weight_conversions, model):
        reader = FineGrainedFP8HfQuantizer(FineGrainedFP8Config(dequantize=True))
        return reader.update_weight_conversions(weight_conversions, model)


class _Pack(Bnb4bitQuantize):
    """Packs what a conversion of the checkpoint's tensors gives, where it is to be packed."""

    def convert(self, input_dict, model=None, **options):
        result = {}
        for name, value in input_dict.items():
            value = value[0] if isinstance(value, list) else value
            if _is_packable_expert(model, name):
                result[name] = packed(value)
            else:
                result |= super().convert({name: value}, model=model, **options)
        return result


def packed(weight: torch.Tensor) -> Params4bit:
    """A weight in NF4 with scales in 8 bits, where it lies."""
    parameter = Params4bit(weight, requires_grad=False, quant_type="nf4", blocksize=BLOCK)
    return parameter.to(weight.device)


def _is_packable_expert(model: torch.nn.Module, name: str) -> bool:
    module, parameter = get_module_from_name(model, name)
    return (
        hasattr(module, "_is_expert_parallel")
        and parameter in expert_parameters(module)
        and can_pack(shape_of(getattr(module, parameter)))
    )


def read_elsewhere(model: torch.nn.Module) -> list[str]:
    """Names of linear layers whose weight the code of another module reads, whatever its mode."""
    found = []
    for name, module in model.named_modules():
        for path in _weights_read(module.__class__, False):
            try:
                child = module.get_submodule(path)
            except AttributeError:
                continue
            if isinstance(child, (torch.nn.Linear, Conv1D)):
                found.append(f"{name}.{path}" if name else path)
    return sorted(set(found))


def reads_while_training(module: torch.nn.Module) -> bool:
    """Whether a module's code reads weights of others only where it is in training mode: to clip
    them, or to hand them to a kernel that would pass by their 4 bits and their adapters."""
    return bool(_weights_read(module.__class__, True))


@cache
def _weights_read(kind: Hashable, training: bool) -> frozenset[str]:
    """Paths of submodules whose ``weight`` a class' methods use for more than its properties.

    ``training``: only behind ``if self.training``, else only elsewhere.
    """
    paths: set[str] = set()
    for cls in kind.__mro__:  # type: ignore[attr-defined]
        if cls.__module__.startswith("torch.") or cls is object:
            continue
        if not any("weight" in _names(method) for method in vars(cls).values()):
            continue  # its source need not be read
        tree = _classes(cls.__module__).get(cls.__name__)
        for method in ast.walk(tree) if tree else ():
            if isinstance(method, ast.FunctionDef) and "init" not in method.name:
                paths |= _paths_in(method, training)
    return frozenset(paths)


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The code of a module's classes; none where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _names(method) -> set[str]:
    """The names that a method's code uses, its inner functions' as well."""
    codes, names = [getattr(inspect.unwrap(method), "__code__", None)], set()
    while codes:
        if code := codes.pop():
            names.update(code.co_names)
            codes += [const for const in code.co_consts if inspect.iscode(const)]
    return names


def _paths_in(method: ast.FunctionDef, training: bool) -> set[str]:
    about = {"dtype", "device", "shape", "requires_grad"}
    skipped, behind = set(), set()
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and node.attr in about:
            skipped.add(id(node.value))
        if isinstance(node, ast.If) and "self.training" in ast.unparse(node.test):
            behind |= {id(inner) for part in node.body for inner in ast.walk(part)}
    paths = set()
    for node in ast.walk(method):
        if not isinstance(node, ast.Attribute) or node.attr != "weight" or id(node) in skipped:
            continue
        if (id(node) in behind) == training and (path := _path_of(node.value)):
            paths.add(path)
    return paths


def _path_of(node: ast.expr) -> str | None:
    """``a.b`` of the expression ``self.a.b``; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join(parts) if isinstance(node, ast.Name) and node.id == "self" and parts else None


def would_pack(model: torch.nn.Module, nf4: bool) -> set[int]:
    """Ids of the parameters that are in 4 bits once loaded, of a model that is on meta.

    ``nf4``: whether to pack is asked for; files that are packed already stay so in any case.
    """
    files = brought.method(model.config)
    if files == brought.MXFP4:
        return _experts_of(model)
    if not nf4 and files != brought.BITSANDBYTES:
        return set()
    own = brought.settings(model.config).get("llm_int8_skip_modules")
    kept = Bnb4BitHfQuantizer.get_modules_to_not_convert(
        model, own, getattr(model, "_keep_in_fp32_modules", None)
    )
    kept = [*kept, *read_elsewhere(model)]
    linear = {
        id(module.weight)
        for name, module in model.named_modules()
        if type(module) in (torch.nn.Linear, Conv1D) and should_convert_module(name, kept)
    }
    return linear | _experts_of(model)


def _experts_of(model: torch.nn.Module) -> set[int]:
    return {
        id(getattr(module, name))
        for module in expert_modules(model).values()
        for name in expert_parameters(module)
        if can_pack(shape_of(getattr(module, name)))
    }
