"""A headless Chromium over the DevTools protocol's pipe: nothing but the standard library."""

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class Browser:
    """One page of one browser; `problems` are the errors of its console."""

    def __init__(self, binary: str, profile: Path):
        """Start it with an empty profile."""
        to_read, self._send = os.pipe()
        self._receive, to_write = os.pipe()
        # The protocol is spoken on file descriptors 3 and 4. They are first moved out of each other's way.
        shell = f'exec 8<&{to_read} 9>&{to_write}; exec "$0" "$@" 3<&8 4>&9 8<&- 9>&-'
        with (profile / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, binary, *FLAGS, f"--user-data-dir={profile / 'profile'}", "about:blank"],
                pass_fds=(to_read, to_write),
                stdout=log,
                stderr=log,
            )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._number = 0
        self._session = None
        self.problems = []
        self.dialogs = 0
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def close(self):
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **parameters):
        """Call the protocol and return the result; events that come meanwhile are taken note of."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self._read(deadline)
            if answer is None:
                raise TimeoutError(f"{method}: no answer")
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _read(self, deadline: float):
        while b"\0" not in self._buffer:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._receive], [], [], wait)[0]:
                return None
            part = os.read(self._receive, 1 << 16)
            if not part:
                raise ConnectionError("the browser has ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event):
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details.get("text"))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.problems.append(str([argument.get("value") for argument in parameters["args"]]))
        elif method == "Page.javascriptDialogOpening":
            self.dialogs += 1

    def open(self, url: str):
        """Go to `url` and wait until the document is complete."""
        self.call("Page.navigate", url=url)
        self.wait("the document", "document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str):
        """Evaluate JavaScript; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait(self, what: str, expression: str, seconds: float = 30):
        """Wait until `expression` is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds} s")
            time.sleep(0.1)

    def size(self, width: int, height: int, mobile: bool = False, scale: float = 1):
        """Set the size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def media(self, **features: str):
        """Set what a reader prefers: color_scheme="dark"."""
        named = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def press(self, key: str, code: int, text: str = ""):
        """Press a key and let it go."""
        for kind in ["keyDown" if text else "rawKeyDown", "keyUp"]:
            more = {"text": text} if text and kind == "keyDown" else {}
            name = "Space" if key == " " else key
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=name, windowsVirtualKeyCode=code, **more)

    def screenshot(self, path: Path, most: int):
        """Write the page as PNG, from its top, at most so many pixels of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], most), "scale": 1}
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(told["data"]))
