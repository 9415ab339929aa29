"""Chromium without a window, spoken to by the DevTools protocol over two pipes: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

import pytest

_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing outside is ever asked
)


def chromium() -> str:
    """The program; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is here: apt-get install chromium")
    return found


class Browser:
    """A page of it.

    Attributes:
        asked: addresses that the page asked for.
        said: what it wrote to its console, and its errors.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest = to, back, b""
        self._number, self._session = 0, ""
        self.asked, self.said = list[str](), list[str]()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, seconds: float = 120, **values: Any) -> Any:
        """The answer to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            answer = self._read(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select([self._back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser says nothing; its page said {self.said}")
            block = os.read(self._back, 1 << 20)
            if not block:
                raise RuntimeError(f"the browser ended; its page said {self.said}")
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)  # type: ignore[no-any-return]

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(values["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.said.append(" ".join(str(a.get("value", a.get("description"))) for a in values["args"]))
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                self.said.append(str(details.get("exception", {}).get("description", details["text"])))
            case "Log.entryAdded":
                self.said.append(values["entry"]["text"])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=address)

    def evaluate(self, script: str, seconds: float = 120) -> Any:
        """The value of an expression in the page; promises are waited for."""
        found = self.call(
            "Runtime.evaluate", seconds, expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} stays {value!r}; the page said {self.said}")
            time.sleep(0.05)
        return value

    def screen(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """The size of the window, and its colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def give_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file) for file in files], nodeId=node)

    def key(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """What is on the screen, or the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))


@contextmanager
def browsing(folder: Path, *flags: str) -> Iterator[Browser]:
    """A browser whose profile lies in a folder; skipped where there is none."""
    program = chromium()
    down, to = os.pipe()
    back, up = os.pipe()

    # The protocol is spoken on the descriptors 3 and 4, whatever numbers the pipes have here.
    def place() -> None:
        one, two = os.dup(down), os.dup(up)
        os.dup2(one, 3)
        os.dup2(two, 4)

    arguments = [program, *_FLAGS, f"--user-data-dir={folder}", *flags]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(3, 4), preexec_fn=place
        )
    os.close(down)
    os.close(up)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)
        os.close(back)
        try:
            process.wait(timeout=10)  # it ends with its pipes
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
