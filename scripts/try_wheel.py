"""Builds the wheel and walks through it as a user would: in an environment and a folder of its own.

    python scripts/try_wheel.py            # dependencies are downloaded anew
    python scripts/try_wheel.py --reuse    # those of this environment are used

The wheel is made from the source archive, so a file missing from either is noticed; another one is
made from the checkout, as `pip install .` does, and must hold the same files.
"""

import argparse
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
MUST_HOLD = {
    "dpo_lite/py.typed",
    "dpo_lite/ui/style.css",
    "dpo_lite/ui/page.js",
    "dpo_lite/ui/reach.js",
    "dpo_lite/builtin/myths/model.safetensors",
    *(f"dpo_lite/recipe/shipped/{name}.yaml" for name in RECIPES),
}
SECONDS_TO_START = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reuse", action="store_true", help="use this environment's dependencies")
    reuse = parser.parse_args().reuse
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        bin_folder = install(wheel, folder / "env", reuse)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        walk(Commands(bin_folder, elsewhere), folder / "env")


def build(folder: Path) -> Path:
    """The wheel that was made from the source archive, after a look into it."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "direct", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    (direct,) = (folder / "direct").glob("*.whl")
    held = set(ZipFile(wheel).namelist())
    assert held == set(ZipFile(direct).namelist()), "the archive's wheel and the checkout's differ"
    assert held >= MUST_HOLD, f"the wheel lacks {sorted(MUST_HOLD - held)}"
    assert any(name.endswith("licenses/LICENSE") for name in held), "the wheel has no licence"
    print(f"{wheel.name}: {len(held)} files, {wheel.stat().st_size / 2**20:.1f} MiB", flush=True)
    return wheel


def install(wheel: Path, env: Path, reuse: bool) -> Path:
    """A fresh environment with the wheel in it; where its commands lie."""
    venv.create(env, with_pip=True)
    bin_folder = env / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / "python"
    if reuse:
        # As a .pth file, since --system-site-packages of an environment means the one below it.
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        others = sysconfig.get_path("purelib")
        (Path(own.stdout.strip()) / "reused.pth").write_text(f"{others}\n", encoding="utf-8")
    run(python, "-m", "pip", "install", "-q", wheel, cwd=env)
    return bin_folder


class Commands:
    """Runs what was installed, from a folder that is not the checkout."""

    def __init__(self, bin_folder: Path, cwd: Path):
        self.bin_folder, self.cwd = bin_folder, cwd
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "DPO_LITE_CACHE": str(cwd / "cache"),  # nothing that was made before helps
            "CUDA_VISIBLE_DEVICES": f"try-wheel-{os.getpid()}",  # waits for nobody's run
        }

    def start(self, *command: str, **how) -> subprocess.Popen:
        program = self.bin_folder / command[0]
        return subprocess.Popen(
            [program, *command[1:]], cwd=self.cwd, env=self.environment, text=True, **how
        )

    def output(self, *command: str) -> str:
        print("$", *command, flush=True)
        process = self.start(*command, stdout=subprocess.PIPE)
        output = process.communicate()[0]
        assert process.returncode == 0, f"{command[0]} ended with {process.returncode}\n{output}"
        return output


def walk(commands: Commands, env: Path) -> None:
    where = commands.output("python", "-c", "import dpo_lite; print(dpo_lite.__file__)").strip()
    assert Path(where).is_relative_to(env.resolve()), f"dpo_lite came from {where}, not the wheel"
    print(where)

    listed = commands.output("dpo-lite", "recipes")
    missing = [name for name in RECIPES if name not in listed]
    assert not missing, f"dpo-lite recipes does not list {missing}"
    print(f"{len(RECIPES)} recipes")

    # The builtin base and its data come along; a run needs nothing from outside.
    print(commands.output("dpo-lite", "train", "quickstart")[-1500:])
    report = commands.cwd / "runs" / "quickstart-1" / "report.md"
    assert report.is_file(), "the quickstart left no report"

    print(f"the page answers after {see_page(commands):.0f} s, with its style and script")


def see_page(commands: Commands) -> float:
    """How many seconds it takes until `dpo-lite ui` shows the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    print("$ dpo-lite ui --port", port, flush=True)
    server = commands.start("dpo-lite", "ui", "--port", str(port))
    try:
        page = ""
        while "dpo-lite" not in page:
            assert server.poll() is None, "dpo-lite ui ended"
            assert time.monotonic() - began < SECONDS_TO_START, "dpo-lite ui does not answer"
            time.sleep(0.2)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30) as answer:
                    page = answer.read().decode()
            except OSError:
                continue
        for mark in ("window.dlAddress", "--dl-ink"):  # page.js and style.css
            assert mark in page, f"the page came without {mark}"
        return time.monotonic() - began
    finally:
        server.terminate()
        server.wait(20)


def run(*command: object, cwd: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


if __name__ == "__main__":
    main()
