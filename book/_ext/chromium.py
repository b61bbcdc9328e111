"""A real browser: Chromium without a window, told what to do over a pipe by its DevTools protocol.

The tests, the crawl of the built book and its PDF use it.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), "")
PATIENCE = 300  # seconds for one answer, unless a page's `patience` is another


class Chromium:
    """One page.  `errors` has what went wrong in it, and `requests` the addresses that it asked for.

    `folder` is for the browser's profile.  Raises RuntimeError where no Chromium is installed, and in every method
    where it has ended or says nothing for a long time.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        if not PROGRAM:
            raise RuntimeError(f"no Chromium is installed; expected one of {', '.join(NAMES)} on the PATH")
        (there, self._write), (self._read, here) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, here)]  # above 3 and 4, where Chromium looks
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        script = f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, PROGRAM, *words, f"--user-data-dir={folder}", *options, "about:blank"],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (there, here, *ends):
            os.close(end)
        self._rest, self._count, self._session = b"", 0, None
        self.patience = PATIENCE
        self.errors: list[str] = []
        self.requests: list[str] = []
        (page,) = [x for x in self("Target.getTargets")["targetInfos"] if x["type"] == "page"]
        self._session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer.  Raises RuntimeError for an error."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, path: Path) -> None:
        """Open a file, and wait until it is there."""
        self("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, code: str) -> Any:
        """The value of JavaScript, which may be a promise.  Raises RuntimeError where it throws."""
        found = self("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"].get("exception", found["exceptionDetails"])))
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds."""
        end = time.monotonic() + self.patience
        while not self.run(condition):
            if time.monotonic() > end:
                raise RuntimeError(f"in vain waited for {condition}; {self.errors}")
            time.sleep(0.05)

    def choose(self, selector: str, files: list[Path]) -> None:
        """Choose files in an input."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve()) for file in files])

    def look(self, width: int, dark: bool = False) -> None:
        """Show the page in a window of that width, light or dark."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write all of the page as a PNG."""
        found = self("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, which takes its helpers along if it ends by itself."""
        self._session = None
        try:
            self("Browser.close")
            self._process.wait(timeout=10)
        except (RuntimeError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write), os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], self.patience)[0]:
                raise RuntimeError("Chromium does not answer")
            if not (piece := os.read(self._read, 1 << 20)):
                raise RuntimeError("Chromium has ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(_said(told["exceptionDetails"].get("exception", told["exceptionDetails"])))
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(map(_said, told["args"])))
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(" ".join(filter(None, (told["entry"]["text"], told["entry"].get("url")))))


def _said(value: dict[str, Any]) -> str:
    """A value on the console, in words."""
    return str(value.get("value", value.get("description", value.get("text", value))))
