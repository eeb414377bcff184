"""The layout, worked by hand, and the split into micro-batches."""

import pytest
import torch

from dpo_lite.data.packing import Tree, pack, pad, split_by_tokens, tree_tokens

# ids: prompt 10 11 12, responses 20 21 | 30 31 32; prompt 40, responses 50 | 60
EXAMPLES = [
    {"prompt_ids": [10, 11, 12], "response_ids": [[20, 21], [30, 31, 32]]},
    {"prompt_ids": [40], "response_ids": [[50], [60]]},
]


def test_forest():
    batch = pack(EXAMPLES)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 30, 31, 32, 40, 50, 60]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 1]]
    # The first token of each response is predicted at the last token of its prompt.
    assert batch.source.tolist() == [2, 3, 2, 5, 6, 8, 8]
    assert batch.target.tolist() == [20, 21, 30, 31, 32, 50, 60]
    assert batch.response.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert batch.response_lengths.tolist() == [2, 3, 1, 1]
    assert batch.trees == [Tree(0, 3, (2, 3)), Tree(8, 1, (1, 1))]
    assert [tree.stop for tree in batch.trees] == [8, 11]
    assert [tree_tokens(example) for example in EXAMPLES] == [8, 3]


def test_padded_rows():
    batch = pad(EXAMPLES, pad_id=99)
    assert batch.input_ids.tolist()[0] == [10, 11, 12, 20, 21, 99]
    assert batch.attention_mask.sum(1).tolist() == [5, 6, 2, 2]
    ids = batch.input_ids.flatten()
    assert (ids[batch.source + 1] == batch.target).all()
    assert batch.target.tolist() == pack(EXAMPLES).target.tolist()


@pytest.mark.parametrize("budget", [1, 10, 25, 1000])
def test_split(budget):
    sizes = torch.randint(1, 20, (50,)).tolist()
    bins = split_by_tokens(sizes, budget)
    assert sorted(index for part in bins for index in part) == list(range(50))
    assert all(sum(sizes[i] for i in part) <= budget or len(part) == 1 for part in bins)
