"""Pages opened in a real browser: headless Chromium, with no way to the network."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROME_ON_MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
PLAYWRIGHT = (".cache/ms-playwright", "Library/Caches/ms-playwright")  # under the home folder
PLAYWRIGHT_NAMES = ("chrome", "headless_shell", "chrome-headless-shell", "Chromium")
MISSING = "no Chromium: apt-get install chromium, or pip install playwright && playwright install"
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9")
CONSOLE = re.compile(r"^\[.*?:CONSOLE[:(]\d+\)?\] (.*)$", re.MULTILINE)


class Opened(NamedTuple):
    """A page after its scripts have run, what its console says, and a picture of it."""

    dom: str
    console: list[str]
    screenshot: Path


def find_browser() -> Path:
    """A Chromium of the system, or Playwright's; an AssertionError says what to install."""
    found = [shutil.which(name) for name in NAMES]
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folders = [Path(named)] if named else [Path.home() / folder for folder in PLAYWRIGHT]
    places = [Path(path) for path in found if path] + [CHROME_ON_MAC]
    for folder in folders:
        for name in PLAYWRIGHT_NAMES:
            places += sorted(folder.glob(f"chromium*/**/{name}"))
    there = next((path for path in places if path.is_file()), None)
    assert there is not None, MISSING
    return there


def open_page(page: Path, folder: Path, *, size: tuple[int, int] = (1240, 1800)) -> Opened:
    """Open a page; profile and screenshot go to ``folder``."""
    screenshot = folder / "page.png"
    done = subprocess.run(
        [
            find_browser(),
            "--headless",
            "--no-sandbox",  # which root and containers do not have
            "--disable-gpu",
            "--disable-dev-shm-usage",  # it is small in containers
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            *OFFLINE,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={size[0]},{size[1]}",
            "--virtual-time-budget=5000",
            "--enable-logging=stderr",
            f"--screenshot={screenshot}",
            "--dump-dom",
            page.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return Opened(done.stdout, CONSOLE.findall(done.stderr), screenshot)
