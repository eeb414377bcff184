"""The layout, worked by hand, and the split into micro-batches."""

import pytest
import torch

from dpo_lite.data.packing import (
    Tree,
    pack,
    pad,
    padded_shape,
    split_alike,
    split_by_rows,
    split_by_tokens,
    tree_tokens,
)

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


def test_the_padded_shape_is_that_of_the_padded_batch():
    for examples in (EXAMPLES, EXAMPLES[1:]):
        assert padded_shape(examples) == tuple(pad(examples).input_ids.shape)


@pytest.mark.parametrize("budget", [1, 60, 200, 10_000])
def test_padding_counts_against_the_budget(budget):
    """A budget that ignores padding is overrun by lengths that differ, as those of people do."""
    lengths = (torch.randn(60).exp() * 12).long().clamp(1, 300).tolist()
    shapes = [(1 + place % 4, length) for place, length in enumerate(lengths)]
    batches = split_by_rows(shapes, budget)
    assert sorted(index for part in batches for index in part) == list(range(60))

    def padded(part):
        return sum(shapes[i][0] for i in part) * max(shapes[i][1] for i in part)

    assert all(padded(part) <= budget or len(part) == 1 for part in batches)
    if budget == 200:  # like lengths together: little of it is padding
        real = sum(rows * width for rows, width in shapes)
        assert sum(map(padded, batches)) < 1.3 * real


def test_shares_are_alike_and_kin_stays_together():
    sizes, kin = [9, 1, 5, 4, 2, 2], ["a", "b", "c", "d", "b", "e"]
    assert split_alike(sizes, kin, 2) == [[0, 1, 4], [2, 3, 5]]  # 12 and 11 tokens
    assert split_alike(sizes, kin, 1) == [[0, 1, 2, 3, 4, 5]]
    assert split_alike([3, 3], ["a", "a"], 3) == [[0, 1], [], []]
    assert split_alike([], [], 2) == [[], []]
