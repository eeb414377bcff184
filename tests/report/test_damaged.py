"""What a report reads beside results.json, one value of another shape: it is passed over."""

import copy
import json

import pytest

from dpo_lite.files import write_json
from dpo_lite.report import exports, kept, replay, rlhf, suite
from dpo_lite.runs.folder import Run

ODD = (None, "x", [], {}, [1], 10**400, -1.5, True)
KEPT = {
    **{"step": 2, "trained": 3, "planned": 3, "evaluations": 2, "patience": 2},
    **{"by": "loss", "kl_budget": 3.0, "ended": "patience"},
    "kept": {"step": 2, "value": 0.5, "kl": 1.0},
    "last": {"step": 3, "value": 0.6, "kl": 1.5},
}
EXPORT = {
    **{"to": "gguf", "rows": 4, "sizes": {"q8": 2**20}, "warnings": ["w"]},
    "survival": [
        {"name": "q8", "margin": 0.1, "right": 3, "pairs": 4}
        | {"kl_from_reference": 0.1, "kl_from_adapter": 0.2}
    ],
}
REPLAYED = {"reproduced": True, "why": None, "updates": 2, "of": 3, "apart": {"loss": 1e-6}}
REPLAYED |= {"adapter": 1e-6, "date": "1 May", "device": "cpu", "versions": {"torch": "2"}}
VALUES = {"reference": {"value": 0.5, "stderr": 0.1}, "policy": {"value": 0.6, "stderr": 0.1}}
ROW = {"task": "arc", "metric": "acc", "filter": "none", "n": 20} | VALUES
ENTRY = {
    **{"suite": "arc", "settings": {"limit": 20, "lm_eval": "0.4"}, "groups": {}, "notes": []},
    "tasks": {"arc": {"fewshot": 5}},
    "rows": [
        ROW | {"changed": {"better": 3, "worse": 1}},
        ROW | {"difference": {"value": 0.1, "stderr": 0.02}},
        ROW | {"log_ratio": {"value": 0.1, "stderr": 0.02}},
    ],
}
POINT = {"run": "a-ppo", "kind": "ppo", "beta": 0.1, "seconds": 2.0, "memory": 9}
POINT |= {"sets": {"test": {"reward": 0.1, "kl": 2.0, "truthful": 0.6, "prompts": 9}}}


def places(tree, path=()):
    """Every path to a node of a tree."""
    yield path
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*path, key))


def damaged(tree):
    """The tree with each of its nodes as each of the odd values, and with each gone."""
    for path in list(places(tree))[1:]:
        for odd in (*ODD, KeyError):
            whole = copy.deepcopy(tree)
            node = whole
            for key in path[:-1]:
                node = node[key]
            if odd is KeyError:
                del node[path[-1]]
            else:
                node[path[-1]] = odd
            yield whole


def said_of_kept(folder, tree):
    kept.kept_step({"kept": tree})
    return kept.kept_words({"kept": tree})


def said_of_exports(folder, tree):
    write_json(folder / exports.EXPORTS, {"exports": [tree]})
    return "\n".join(exports.lines(Run(folder)))


def said_of_replay(folder, tree):
    write_json(folder / replay.VERIFIED, tree)
    return replay.verified_words(replay.verified(folder))


def said_of_suite(folder, tree):
    write_json(folder / suite.SUITE, {"entries": [tree]})
    return "\n".join(suite.markdown(suite.read_suite(folder)))


def said_of_points(folder, tree):
    (folder / rlhf.POINTS).write_text(json.dumps(tree) + "\n")
    points = rlhf.read_points(Run(folder))
    return rlhf.table(points) if points else ""


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (KEPT, said_of_kept),
        (EXPORT, said_of_exports),
        (REPLAYED, said_of_replay),
        (ENTRY, said_of_suite),
        (POINT, said_of_points),
    ],
)
def test_a_value_of_another_shape_is_no_traceback(tmp_path, sound, said):
    assert said(tmp_path, sound)
    told = [said(tmp_path, tree) for tree in damaged(sound)]
    assert "" in told  # what cannot be shown is not
