"""Keep the libraries' own chatter away from the user, who can do nothing about it.

Imported before torch and transformers. ``DPO_LITE_DEBUG=1`` (or ``--debug``) leaves it all on.
"""

import logging
import os
import warnings

LIBRARIES = (
    "torch transformers peft bitsandbytes trl datasets accelerate huggingface_hub httpx".split()
)


def quiet_libraries() -> None:
    """Silence progress bars, advisory warnings and telemetry of the libraries below us."""
    # Telemetry is off even when debugging: a training tool has nothing to report to anyone.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if os.environ.get("DPO_LITE_DEBUG"):
        return
    for bars in ("HF_HUB", "HF_DATASETS"):  # ours is the one bar, also for the Hub's downloads
        os.environ.setdefault(f"{bars}_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said aloud, so that forks are quiet
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    warnings.filterwarnings(
        "ignore", module=r"(torch|transformers|peft|bitsandbytes|trl|datasets)\b"
    )
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in notebooks
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
