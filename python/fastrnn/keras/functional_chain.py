"""A functional model whose layers follow one another, as the list of them; other graphs are refused, with the place."""

from __future__ import annotations

from typing import Any

from .archive import Refused
from .configs import place_of


def chain(config: dict[str, Any], entries: list[Any]) -> list[Any]:
    """The layers in order. Keras writes the mask of an Embedding with mask_zero down as a comparison (ids != 0) that
    goes to each layer that takes masks; here layers pass masks on by themselves, so it is checked and left out."""
    current = _only("input_layers", config.get("input_layers"))
    order: list[Any] = []
    # name of a comparison with zero -> name of what is compared
    comparisons: dict[str, str] = {}
    # what an Embedding with mask_zero takes
    masked: set[str] = set()
    for entry in entries:
        place = place_of(len(order) - 1, entry)
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            raise Refused(f"{place}: expected a layer's configuration, got something else")
        name = entry["config"].get("name")
        if entry.get("class_name") == "InputLayer":
            if order or name != current:
                raise Refused(f"{place}: expected one input, got another")
            order.append(entry)
            continue
        nodes = entry.get("inbound_nodes")
        if not isinstance(nodes, list) or len(nodes) != 1:
            raise Refused(f"{place}: expected a layer used once, got another number of uses")
        node = nodes[0] if isinstance(nodes[0], dict) else {}
        args, kwargs = node.get("args"), node.get("kwargs")
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not args:
            raise Refused(f"{place}: expected a layer's inputs, got something else")
        source = _history(args[0])
        if not isinstance(name, str):
            raise Refused(f"{place}: name: expected a string, got {name!r:.60}")
        if entry.get("class_name") == "NotEqual" and args[1:] == [0] and source is not None:
            comparisons[name] = source
            continue
        if len(args) != 1 or source != current:
            words = "expected the output of the layer before as its one input"
            raise Refused(f"{place}: {words}: the layers must form a chain")
        for key, value in kwargs.items():
            if key == "mask" and value is not None:
                if comparisons.get(_history(value) or "") not in masked:
                    raise Refused(f"{place}: mask: expected that of an Embedding with mask_zero, got another")
            elif value not in (None, False):
                raise Refused(f"{place}: {key:.60}: expected the layer called with its input alone, got {value!r:.60}")
        if entry.get("class_name") == "Embedding" and entry["config"].get("mask_zero"):
            masked.add(current)
        order.append(entry)
        current = name
    if _only("output_layers", config.get("output_layers")) != current or not order:
        raise Refused("expected the last layer's output as the model's one output: the layers must form a chain")
    return order


def _only(key: str, value: Any) -> str:
    """The name in ["name", 0, 0] or [["name", 0, 0]]."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and value[1:] == [0, 0]:
        return value[0]
    raise Refused(f"{key}: expected one, got {value!r:.60}: only a chain of layers can be read")


def _history(value: Any) -> str | None:
    """The name of the layer whose (only) output `value` describes."""
    config = value.get("config") if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__" else None
    history = config.get("keras_history") if isinstance(config, dict) else None
    if isinstance(history, list) and len(history) == 3 and isinstance(history[0], str) and history[1:] == [0, 0]:
        return history[0]
    return None
