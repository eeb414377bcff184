"""Change one key in a recipe's text and leave the rest, comments and order too, as it stands.

The place of a key is taken from the marks of PyYAML's nodes. Each edit is read back; where the text
does not then say exactly what was meant, it is written anew from its values: never wrong, at worst
without its comments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import yaml

from dpo_lite.recipe.loading import (
    RecipeLoader,
    apply_override,
    dump_yaml,
    parse_yaml,
    read_override,
)
from dpo_lite.recipe.replaced import in_words, outdated, value_of

UNSET = object()


def set_key(text: str, key: str, value: Any) -> str:
    """Return the YAML text with ``section.key`` (or a key outside of sections) set to a value.

    ``UNSET`` removes the key, and a section that becomes empty with it. Raises UserError where the
    text is no YAML.
    """
    values = _values_of(text)
    section, _, leaf = key.rpartition(".")
    _assign(values, section, leaf, value)
    edited = _edit(text, section, leaf, value)
    return edited if edited is not None and _says(edited, values) else dump_yaml(values)


def override_text(
    text: str, overrides: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> str:
    """The text with ``section.key=value`` overrides as the command line writes them put into it.

    What belongs to what they replace goes, and ``say`` is told. So does a comment behind a value
    that they change: it may be false of the new one.
    """
    written = _values_of(text)
    gone = outdated(written, dict(map(read_override, overrides)))
    for line in in_words(written, gone):
        say(line)
    for key in gone:
        text = set_key(text, key, UNSET)
    for override in overrides:
        values = _values_of(text)
        apply_override(values, override)
        key = ".".join(read_override(override)[0].split(".")[:2])  # what is deeper stands in it
        if value_of(values, key) != value_of(_values_of(text), key):
            text = _without_remark(text, key)
        text = set_key(text, key, value_of(values, key))
    return text


def _without_remark(text: str, key: str) -> str:
    """The text without the comment behind a key's value, which may be about that value alone."""
    node = yaml.compose(text, RecipeLoader)
    for part in key.split("."):
        pair = _find(node, part) if isinstance(node, yaml.MappingNode) else None
        if pair is None:
            return text
        node = pair[1]
    end = _end(text, node)
    line = _line_end(text, end)
    remark = text[end:line].strip()
    return text[:end] + text[line:] if remark.startswith("#") else text


def _values_of(text: str) -> dict[str, Any]:
    values = parse_yaml(text, "the YAML")
    return values if isinstance(values, dict) else {}


def inline(value: Any) -> str:
    """A value as YAML on one line, safe inside of braces too."""
    return dump_yaml([value], default_flow_style=True).strip()[1:-1]


def _assign(values: dict, section: str, leaf: str, value: Any) -> None:
    holder = values
    if section:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        holder = values[section]
    if value is not UNSET:
        holder[leaf] = value
        return
    holder.pop(leaf, None)
    if section and not holder:
        del values[section]


def _says(text: str, values: dict) -> bool:
    try:
        return (yaml.load(text, RecipeLoader) or {}) == values
    except yaml.YAMLError:
        return False


def _edit(text: str, section: str, leaf: str, value: Any) -> str | None:
    """The edited text, or None where there is nothing to hold on to."""
    root = yaml.compose(text, RecipeLoader)
    if not isinstance(root, yaml.MappingNode) or not root.value:
        return None
    if not section:
        entry = _find(root, leaf)
        if value is UNSET:
            return _remove(text, root, entry) if entry else text
        if entry:
            return _replace(text, *entry, value, flow=bool(root.flow_style))
        return _line_start_insert(text, root, f"{leaf}: {inline(value)}\n")
    holder = _find(root, section)
    if holder is None:
        return text if value is UNSET else _append_section(text, section, leaf, value)
    parent = holder[1]
    if not isinstance(parent, yaml.MappingNode):
        return None
    entry = _find(parent, leaf)
    if value is UNSET:
        if not entry:
            return text
        return _remove(text, *((root, holder) if len(parent.value) == 1 else (parent, entry)))
    if entry:
        return _replace(text, *entry, value, flow=bool(parent.flow_style))
    return _insert(text, parent, leaf, value)


def _find(parent: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next((pair for pair in parent.value if pair[0].value == key), None)


def _replace(text: str, key: yaml.Node, old: yaml.Node, value: Any, flow: bool) -> str:
    start, end = old.start_mark.index, _end(text, old)
    colon = text.index(":", key.end_mark.index) + 1
    was_block = _is_block(old)
    as_block = isinstance(value, list) and value and not flow and not _is_flow(old)
    if was_block:
        lines = isinstance(old, yaml.CollectionNode)  # begins on a line of its own
        above = text.rindex("\n", 0, start) if lines else colon
        if as_block:
            indent = old.start_mark.column if lines else key.start_mark.column + 2
            return text[:above] + _items(value, indent) + text[end:]
        return f"{text[:colon]} {inline(value)}{text[colon:above]}{text[end:]}"
    if as_block:
        line = _line_end(text, end)
        items = _items(value, key.start_mark.column + 2)
        return text[:colon] + text[end:line] + items + text[line:]
    space = " " if start == end else ""
    return text[:start] + space + inline(value) + text[end:]


def _insert(text: str, parent: yaml.MappingNode, leaf: str, value: Any) -> str:
    if parent.flow_style:
        closing = parent.end_mark.index - 1
        comma = ", " if parent.value else ""
        return f"{text[:closing]}{comma}{leaf}: {inline(value)}{text[closing:]}"
    at = _line_end(text, _end(text, parent.value[-1][1]))
    indent = parent.value[0][0].start_mark.column
    return f"{text[:at]}\n{_pair(leaf, value, indent)}{text[at:]}"


def _line_start_insert(text: str, root: yaml.MappingNode, line: str) -> str | None:
    """A key outside of sections stands above the first section."""
    if root.flow_style:
        return None
    key = next((k for k, v in root.value if isinstance(v, yaml.MappingNode)), root.value[0][0])
    return text[: key.start_mark.index] + line + text[key.start_mark.index :]


def _append_section(text: str, section: str, leaf: str, value: Any) -> str:
    return f"{text.rstrip()}\n\n{section}:\n{_pair(leaf, value, 2)}\n"


def _remove(text: str, parent: yaml.MappingNode, pair: tuple[yaml.Node, yaml.Node]) -> str:
    start, end = pair[0].start_mark.index, _end(text, pair[1])
    if not parent.flow_style:
        return text[: text.rfind("\n", 0, start) + 1] + text[_line_end(text, end) + 1 :]
    keys = [key for key, _ in parent.value]
    place = next(i for i, key in enumerate(keys) if key is pair[0])
    if place + 1 < len(keys):
        end = keys[place + 1].start_mark.index
    elif place:
        start = _end(text, parent.value[place - 1][1])
    return text[:start] + text[end:]


def _pair(leaf: str, value: Any, indent: int) -> str:
    head = f"{' ' * indent}{leaf}:"
    if isinstance(value, list) and value:
        return head + _items(value, indent + 2)
    return f"{head} {inline(value)}"


def _items(values: list, indent: int) -> str:
    return "".join(f"\n{' ' * indent}- {inline(value)}" for value in values)


def _is_flow(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _is_block(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return node.style in ("|", ">")
    return not node.flow_style


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's text ends; PyYAML's mark of a block stands behind the blank lines after it."""
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[: node.end_mark.index].rstrip())
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    return _end(text, last[1] if isinstance(last, tuple) else last)


def _line_end(text: str, index: int) -> int:
    """The end of a line, its comment included, without the line break."""
    end = text.find("\n", index)
    return len(text) if end < 0 else end
