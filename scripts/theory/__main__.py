"""Write the numbers and pictures of both theory pages in docs: `python -m scripts.theory`."""

import sys
from pathlib import Path

from scripts.theory.document import fill
from scripts.theory.measure import measure
from scripts.theory.methods import methods_tables
from scripts.theory.pictures import draw

document = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/theory.md")
methods = document.with_name("theory-methods.md")
for file in (document, methods):
    if not file.is_file():
        sys.exit(f"{file} is not there: run this in the repository, or name the document.")
measured = measure()
pages = {document: measured.tables, methods: methods_tables(measured.world)}
for file, tables in pages.items():
    file.write_text(fill(file.read_text("utf-8"), tables), "utf-8")
    print(f"{file}: {len(tables)} tables")
draw(measured, document.parent)
print(f"theory-*.png beside {document}")
