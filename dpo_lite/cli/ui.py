"""`dpo-lite ui`, which `python app.py` runs too."""

from __future__ import annotations

from typing import Annotated

import typer

from dpo_lite.cli.common import RunsFolder, app


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than 127.0.0.1 needs a password.")
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option("--share", help="A public link through Gradio; needs a password.")
    ] = False,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="With --host or --share: let others run code by their recipes."
        ),
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the browser.")] = False,
    runs: RunsFolder = "runs",
    recipes: Annotated[str, typer.Option(help="Where your own recipes are.")] = "my-recipes",
) -> None:
    """The web page: recipes, data, runs, comparing, publishing.

    The password for --host and --share is taken from DPO_LITE_PASSWORD, or asked for.

    Example:  dpo-lite ui --port 7860
    """
    from dpo_lite.ui.server import serve

    serve(runs, recipes, host, port, share, open_browser, allow_code=allow_code)
