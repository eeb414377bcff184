"""The page as a whole: the line above all tabs, the tabs, and what they share."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from dpo_lite.ui import parts, status, tab_compare, tab_data, tab_publish, tab_recipes, tab_runs
from dpo_lite.ui.blocks import Blocks, remembered_names
from dpo_lite.ui.shared import Page, names_in

TABS = {
    "recipes": ("Recipes", tab_recipes.build),
    "data": ("Data", tab_data.build),
    "runs": ("Runs", tab_runs.build),
    "compare": ("Compare", tab_compare.build),
    "publish": ("Publish", tab_publish.build),
}
# Fixed, so that what the browser keeps can be read after the server started anew. It hides nothing.
BROWSER_SECRET = "dpo-lite"


def build(page: Page) -> gr.Blocks:
    """The whole page. It begins with the recipes; all else is read when a browser asks."""
    with Blocks(title="dpo-lite", analytics_enabled=False, fill_width=True) as blocks:
        status_line = status.build(page)
        selected = remembered_names(storage_key="dl-selected-runs", secret=BROWSER_SECRET)
        page = replace(page, blocks=blocks, selected=selected)
        page = replace(page, wanted_data=gr.State(None), wanted_run=gr.State(None))
        page = replace(page, wanted_audit=gr.State(None))
        page = replace(page, wanted_sweep=gr.State(None), wanted_study=gr.State(None))
        address = [gr.Textbox(visible=False), gr.Textbox(visible=False)]
        with gr.Tabs(elem_id="tabs", selected="recipes") as tabs:  # only tabs may stand in here
            page = replace(page, tabs=tabs)
            for name, (label, build_tab) in TABS.items():
                with gr.Tab(label, id=name, elem_id=f"tab-{name}") as tab:
                    build_tab(page)
                tab.select(None, js=f"() => window.dlAddress('tab', '{name}')")
        first = "() => window.dlFirstAddress()"
        blocks.load(_from_address, address, [tabs, selected], js=first, **parts.QUIET)
        selected.change(
            None, selected, js="(names) => window.dlAddress('runs', (names || []).join(','))"
        )
    _tell_one_only(blocks, status_line)
    return blocks


def _tell_one_only(blocks: gr.Blocks, component: gr.Component) -> None:
    """Have the browser show the course of every event at one component.

    Gradio's default is each event's outputs, and at each message of any event it walks through the
    whole page for every one of them: an idle page then keeps most of a core busy.
    """
    for event in blocks.fns.values():
        event.show_progress_on = [component]


def _from_address(tab: str, runs: str):
    """``/?tab=runs&runs=a,b`` opens that tab and these runs, so a reload and a link find them."""
    names = names_in(runs)
    return gr.Tabs(selected=tab) if tab in TABS else gr.skip(), names or gr.skip()
