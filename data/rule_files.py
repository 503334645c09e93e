"""Files of rules as plain Python values: YAML without its traps, every fault with its place.

Here: reading, and what YAML 1.1 would silently turn into something else. Not here: what a row may
hold (data.rule_rows).
"""

import re
from pathlib import Path
from typing import Any

import yaml

from data.errors import SmsError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast, where the package was built with it."""


class RulesError(SmsError):
    """A file of rules that cannot be trusted. Nothing is sent by it."""


def read_rows(path: Path, content: bytes) -> list[Any]:
    """Return the rows of a file as they stand there: mappings, lists and texts.

    Raises `RulesError`, with the file and the line.
    """
    try:
        node = yaml.compose(content, Loader=_LOADER)
    except yaml.YAMLError as error:
        # ParserError and its siblings carry several lines of context; people need the place.
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise RulesError(f"{path}{line}: this is no readable YAML; mend the file") from None
    if node is None:
        raise RulesError(f"{path}: the file is empty; remove it or write its rules")
    document = _plain(path, "", node)
    if (
        not isinstance(document, dict)
        or set(document) != {"rules"}
        or not isinstance(document["rules"], list)
    ):
        raise RulesError(f"{path}: the file needs one key, rules, with a list of rows")
    return document["rules"]


def _plain(path: Path, key: str, node: yaml.Node) -> Any:
    """Turn a node into Python values, refusing what YAML 1.1 reads as something else."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, f"{key}[{at}]", child) for at, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for name_node, child in node.value:
            name = _plain(path, f"{key}.<key>", name_node)
            if name in mapping:
                line = name_node.start_mark.line + 1
                raise RulesError(f"{path}, line {line}: {name} is given twice; remove one")
            mapping[name] = _plain(path, f"{key}.{name}".lstrip("."), child)
        return mapping
    if node.tag.endswith(":int") and re.fullmatch(r"0|[1-9][0-9]*", node.value):
        return int(node.value)
    if node.tag.endswith(":bool") and node.value in ("true", "false"):
        return node.value == "true"
    if not node.tag.endswith(":str"):
        # NO is false, ON is true, 10:00 is 600 and an empty value is null to YAML 1.1.
        raise RulesError(
            f"{path}, line {node.start_mark.line + 1}: {key}: {node.value or 'an empty value'} "
            f"without quotes is no text to YAML ({node.tag.rpartition(':')[2]}); "
            f'write "{node.value}"'
        )
    return node.value
