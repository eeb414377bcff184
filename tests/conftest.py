"""Small models built from their configs: the same code paths as the real ones, in milliseconds."""

from dpo_lite.quiet import quiet_libraries

quiet_libraries()

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(2)
