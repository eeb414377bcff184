"""Names of cards as people and drivers write them."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.memory.cards import CARDS, card_named, of_memory, speed_of


@pytest.mark.parametrize(
    ("name", "gib", "key"),
    [
        ("3060", 12, "3060"),
        ("RTX 3060 12GB", 12, "3060"),
        ("NVIDIA GeForce RTX 4060 Ti", 16, "4060ti"),
        ("4060ti 8GB", 8, "4060ti"),
        ("rtx-4070-ti-super", 16, "4070tisuper"),
        ("Tesla T4", 16, "t4"),
        ("NVIDIA A100-SXM4-80GB", 80, "a100"),
        ("NVIDIA A100-PCIE-40GB", 40, "a100"),
        ("NVIDIA H100 PCIe", 80, "h100pcie"),
        ("NVIDIA H100 80GB HBM3", 80, "h100"),
        ("NVIDIA RTX A6000", 48, "a6000"),
        ("12GB", 12, None),
        ("7.5 GiB", 7.5, None),
        ("24", 24, None),
    ],
)
def test_a_cards_name(name, gib, key):
    memory, speed, known = card_named(name)
    assert (memory, known) == (gib, key)
    assert speed == (CARDS[key][1] if key else None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m3 max", "Macs train on their CPU here"),
        ("mps", "Macs train on their CPU here"),
        ("RX 7900 XTX", "AMD's cards were never tried"),
        ("mi300", "AMD's cards were never tried"),
        ("4075", "no card that is known"),
        ("a potato", "no card that is known"),
        ("0GB", "no card that is known"),
    ],
)
def test_what_is_no_card_of_ours(name, said):
    with pytest.raises(UserError, match=said):
        card_named(name)


def test_a_laptops_card_is_not_taken_for_the_desktops():
    assert speed_of("NVIDIA GeForce RTX 3060") == CARDS["3060"][1]
    assert speed_of("NVIDIA GeForce RTX 3060 Laptop GPU") is None


def test_geforce_speeds_rise_with_the_number_within_a_generation():
    for generation in ("30", "40", "50"):
        known = [(n, s) for n, (_, s) in CARDS.items() if n.startswith(generation) and s]
        assert [s for _, s in known] == sorted(s for _, s in known)


def test_cards_of_a_memory_are_told_from_slow_to_fast():
    names = of_memory(12)
    assert names[0] == "3060"
    assert len(names) == 3
    assert [CARDS[n][1] for n in names] == sorted(CARDS[n][1] for n in names)
    assert of_memory(13) == []
