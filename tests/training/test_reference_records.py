"""The records of the reference cache: half written, damaged, of another one, by two processes."""

import multiprocessing
import os
import time

import pytest
import torch

from dpo_lite.training.reference_cache import (
    RECORD,
    ReferenceCache,
    response_keys,
)
from tests.model.small_models import random_examples
from tests.training.test_reference_cache import fixed, never


def test_the_first_number_stays(tmp_path):
    """Also for a response that stands twice in a batch: a repeated update has equal numbers."""
    one, two = random_examples(2, 1)
    references = ReferenceCache(tmp_path)
    assert references.logps([one, one], fixed(-1.0, -1.5)).tolist() == [-1.0, -1.0]
    assert references.logps([one, two], fixed(-9.0, -2.0)).tolist() == [-1.0, -2.0]
    assert ReferenceCache(tmp_path).logps([two, one], never).tolist() == [-2.0, -1.0]


def test_numbers_come_back_to_the_last_bit(tmp_path):
    examples = random_examples(50, 2)
    logps = torch.randn(100) * 300
    ReferenceCache(tmp_path).logps(examples, lambda: logps)
    assert torch.equal(ReferenceCache(tmp_path).logps(examples, never), logps)


def test_what_is_not_finite_is_not_kept(tmp_path):
    (example,) = random_examples(1, 2)
    references = ReferenceCache(tmp_path)
    assert references.logps([example], fixed(float("nan"), -1.0)).isnan().tolist() == [True, False]
    assert references.logps([example], fixed(-2.0, -3.0)).tolist() == [-2.0, -1.0]


def file_of(folder):
    (path,) = folder.glob("*.bin")
    return path


def test_a_half_written_record_is_ignored(tmp_path):
    examples = random_examples(3, 1)
    for example, logp in zip(examples, (-1.0, -2.0, -3.0), strict=True):
        ReferenceCache(tmp_path).logps([example], fixed(logp))
    path = sorted(tmp_path.glob("*.bin"))[0]
    for size in range(RECORD):
        os.truncate(path, RECORD - 1 - size)
        assert len(ReferenceCache(tmp_path).known) == 2
    references = ReferenceCache(tmp_path)
    references.logps(examples, fixed(-1.0, -2.0, -3.0))
    assert ReferenceCache(tmp_path).logps(examples, never).tolist() == [-1.0, -2.0, -3.0]


def test_a_flipped_bit_costs_one_record(tmp_path):
    """No damage of one byte, wherever it is, gives a number that was not written."""
    examples = random_examples(3, 1)
    ReferenceCache(tmp_path).logps(examples, fixed(-1.0, -2.0, -3.0))
    path = file_of(tmp_path)
    sound, content = ReferenceCache(tmp_path).known, path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        found = ReferenceCache(tmp_path).known
        assert len(found) == 2
        assert found.items() < sound.items()


@pytest.mark.parametrize(
    "garbage",
    [b"", bytes(10_000), b"not a record\n" * 999, os.urandom(50_000), b"\xff" * 777],
)
def test_garbage_is_ignored(tmp_path, garbage):
    examples = random_examples(2, 1)
    ReferenceCache(tmp_path).logps(examples, fixed(-1.0, -2.0))
    (tmp_path / "0.bin").write_bytes(garbage)
    (tmp_path / "1.bin").mkdir()
    assert len(ReferenceCache(tmp_path).known) == 2


def test_a_file_of_another_reference_is_ignored(tmp_path):
    """Its records are whole, but they are another model's numbers."""
    examples = random_examples(2, 1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    ReferenceCache(tmp_path / "one").logps(examples, fixed(-1.0, -2.0))
    path = file_of(tmp_path / "one")
    path.rename(tmp_path / "two" / path.name)
    assert ReferenceCache(tmp_path / "two").known == {}


def test_a_disk_that_takes_no_more_stops_no_training(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    said = []
    references = ReferenceCache(folder, said.append)
    folder.rmdir()
    one, two = random_examples(2, 1)
    assert references.logps([one], fixed(-1.0)).tolist() == [-1.0]
    assert references.logps([two], fixed(-2.0)).tolist() == [-2.0]
    assert references.logps([one, two], never).tolist() == [-1.0, -2.0]
    assert len(said) == 1
    assert "no longer kept on disk" in said[0]


def write_many(folder, offset):
    references = ReferenceCache(folder)
    for place, example in enumerate(random_examples(300, 1, seed=7)):
        references.logps([example], fixed(float(-offset - place)))


@pytest.mark.long
def test_two_processes_write_at_once(tmp_path):
    """Each has its own file; whoever reads meanwhile sees whole records of one of the two."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, at)) for at in (1000, 5000)]
    places = {}
    for place, key in enumerate(response_keys(random_examples(300, 1, seed=7))):
        places.setdefault(key, place)
    for writer in writers:
        writer.start()
    busy = True
    while busy:
        busy = any(writer.is_alive() for writer in writers)
        known = ReferenceCache(tmp_path).known
        for key, logp in known.items():
            assert logp in (-1000 - places[key], -5000 - places[key])
        time.sleep(0.01 if known else 0.1)  # until they have started there is nothing to catch
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert ReferenceCache(tmp_path).known.keys() == places.keys()
