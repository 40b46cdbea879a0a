"""Chromium without a window, driven by its own protocol over two pipes: no driver, no port, nothing to download."""

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 30.0
"""Longer than any single answer takes, a start on a busy machine included."""


def browser_program() -> str | None:
    """The first browser found on this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Pipe:
    """Commands out, answers in, each ended by a zero byte; what the browser tells unasked is not kept."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._last = 0

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result; raises RuntimeError where the browser refuses."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        os.write(self._commands, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") != self._last:
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], SECONDS)[0]:
                raise TimeoutError(f"the browser has not answered for {SECONDS:.0f} seconds")
            self._rest += os.read(self._answers, 1 << 20)
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


class Tab:
    """A page: what a reader does with it, and what it then shows."""

    def __init__(self, pipe: Pipe, target: str) -> None:
        self._pipe = pipe
        self._session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def go_to(self, address: str, width: int, height: int) -> None:
        """Opens a page on a screen of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.enable")
        self.call("Page.navigate", url=address)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol to this page."""
        return self._pipe.call(method, self._session, **params)

    def value(self, script: str) -> Any:
        """What an expression gives, promises awaited; raises RuntimeError where it throws."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The first true value of an expression."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with suppress(RuntimeError):  # the page may be on its way
                if found := self.value(script):
                    return found
            time.sleep(0.05)
        raise TimeoutError(f"never true: {script}")

    def centre(self, script: str) -> tuple[float, float]:
        """Where an element is on the screen, after scrolling there."""
        self.value(f"({script}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        found = self.value(
            f"(({{left, top, width, height}}) => [left + width / 2, top + height / 2])"
            f"(({script}).getBoundingClientRect())"
        )
        return float(found[0]), float(found[1])

    def point_at(self, at: tuple[float, float]) -> None:
        """Moves the mouse there."""
        for step in (-1, 0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0] + step, y=at[1])

    def press(self, at: tuple[float, float]) -> None:
        """Clicks there."""
        self.point_at(at)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def turn_wheel(self, at: tuple[float, float], by: float, *, ctrl: bool = False) -> None:
        """Turns the wheel there, with or without Ctrl."""
        held = {"modifiers": 2} if ctrl else {}
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=at[0], y=at[1], deltaX=0, deltaY=by, **held)

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])


class Browser:
    """A running browser, and the folder that its downloads go to."""

    def __init__(self, pipe: Pipe, downloads: Path) -> None:
        self._pipe, self.downloads = pipe, downloads
        pipe.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)

    def open(self, address: str, width: int = 1280, height: int = 900) -> Tab:
        """A tab at an address."""
        tab = Tab(self._pipe, self._pipe.call("Target.createTarget", url="about:blank")["targetId"])
        tab.go_to(address, width, height)
        return tab

    def frame(self) -> Tab:
        """The frame whose sandbox keeps it apart from the page around it, once it is there."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            targets = self._pipe.call("Target.getTargets")["targetInfos"]
            for target in targets:
                if target["type"] == "iframe":
                    return Tab(self._pipe, target["targetId"])
            time.sleep(0.05)
        raise TimeoutError("no frame appeared")

    def addresses(self) -> list[str]:
        """What every tab shows or is about to show."""
        return [target["url"] for target in self._pipe.call("Target.getTargets")["targetInfos"]]

    def downloaded(self, name: str) -> str:
        """A file that a page handed out, once it is whole."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            file = self.downloads / name
            if file.exists() and file.stat().st_size:
                return file.read_text(encoding="utf-8")
            time.sleep(0.05)
        raise TimeoutError(f"{name} was never downloaded; there is {sorted(self.downloads.iterdir())}")


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """A browser whose profile and downloads are in `folder`, and that is gone in the end."""
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    arguments = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    arguments += [f"--user-data-dir={folder / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process, pipe = _start([program, *arguments, "about:blank"])
    try:
        yield Browser(pipe, downloads)
    finally:
        with suppress(RuntimeError, TimeoutError, OSError, ValueError):
            pipe.call("Browser.close")
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)


def _start(command: list[str]) -> tuple[int, Pipe]:
    """The browser reads commands from its file 3 and writes answers to its file 4."""
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    silent = os.open(os.devnull, os.O_RDWR)
    # Copies far from 3 and 4, so that putting one in place never overwrites the other.
    theirs = [_far(commands_out), _far(answers_in)]
    places = [(os.POSIX_SPAWN_DUP2, silent, 1), (os.POSIX_SPAWN_DUP2, silent, 2)]
    places += [(os.POSIX_SPAWN_DUP2, file, place) for file, place in zip(theirs, (3, 4), strict=True)]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=places)
    for file in (commands_out, answers_in, silent, *theirs):
        os.close(file)
    return process, Pipe(commands_in, answers_out)


def _far(file: int) -> int:
    import fcntl

    return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 64)
