"""Write the numbers and pictures of docs/theory.md: `python -m scripts.theory`."""

import sys
from pathlib import Path

from scripts.theory.document import fill
from scripts.theory.measure import measure
from scripts.theory.pictures import draw

document = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/theory.md")
if not document.is_file():
    sys.exit(f"{document} is not there: run this in the repository, or name the document.")
measured = measure()
document.write_text(fill(document.read_text("utf-8"), measured.tables), "utf-8")
draw(measured, document.parent)
print(f"{document}: {len(measured.tables)} tables; theory-*.png beside it")
