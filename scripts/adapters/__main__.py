"""Have PEFT make adapters of every kind, try them and write docs/adapters.md: about a minute.

`python -m scripts.adapters`
"""

import sys
import tempfile
from pathlib import Path

from dpo_lite.quiet import quiet_libraries

quiet_libraries()

from scripts.adapters.document import fill  # noqa: E402
from scripts.adapters.kinds import KINDS  # noqa: E402
from scripts.adapters.trial import try_kind  # noqa: E402

document = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/adapters.md")
if not document.is_file():
    sys.exit(f"{document} is not there: run this in the repository, or name the document.")
with tempfile.TemporaryDirectory() as folder:
    outcomes = {kind.name: try_kind(kind, Path(folder)) for kind in KINDS}
document.write_text(fill(document.read_text("utf-8"), outcomes), "utf-8")
wrong = [name for name, outcome in outcomes.items() if "WRONG" in str(outcome.uses)]
print(f"{document}: {len(outcomes)} kinds, {len(wrong)} of them wrong {' '.join(wrong)}")
