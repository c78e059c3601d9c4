"""Headless Chromium, driven over its debugging protocol: what a page says and does."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
import urllib.request

from tornado.websocket import websocket_connect

WITHOUT_NETWORK = ("file:", "data:", "blob:", "about:")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
]  # fmt: skip


def chromium():
    """Return the program, None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One page of a browser that was started for it; use as a context manager."""

    def __init__(self, folder, width=1280, height=900, patience=60):
        self.patience = patience
        self.folder, self.size = folder, (width, height)
        self.errors, self.requests = [], []
        self._number = 0
        self._loop = asyncio.new_event_loop()

    def __enter__(self):
        self._profile = self.folder / "profile"
        self._log = (self.folder / "chromium.log").open("wb")
        words = [chromium(), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log)
        try:
            self._loop.run_until_complete(self._connect())
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            self.resize(*self.size)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._log.close()
        self._loop.close()

    async def _connect(self):
        port_file, end = self._profile / "DevToolsActivePort", time.monotonic() + self.patience
        while not (port_file.exists() and port_file.read_text().strip()):
            assert self._process.poll() is None, "chromium ended"
            assert time.monotonic() < end, "chromium does not answer"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(t for t in json.load(answer) if t["type"] == "page")
        self._socket = await websocket_connect(
            target["webSocketDebuggerUrl"], max_message_size=1 << 28
        )

    async def _message(self, seconds):
        text = await asyncio.wait_for(self._socket.read_message(), seconds)
        assert text is not None, "chromium closed the page"
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or str(details))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(str([a.get("value") for a in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(WITHOUT_NETWORK):
                self.requests.append(url)

    async def _call(self, method, params):
        self._number += 1
        number = self._number
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": params})
        )
        while True:
            message = await self._message(self.patience)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def call(self, method, **params):
        """Send a command and return its result; what the page says meanwhile is kept."""
        return self._loop.run_until_complete(self._call(method, params))

    def run(self, script):
        """Return the value of a JavaScript expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + self.patience
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.1)

    def resize(self, width, height):
        """Give the window another size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def open(self, path):
        """Load a file and wait until bokeh has drawn everything."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && typeof Bokeh !== 'undefined'")
        self.wait("Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")

    def point_at(self, x, y):
        """Move the pointer there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path, whole=False):
        """Save a screenshot of the window, or of the whole page."""
        options = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"],
                               "height": size["height"], "scale": 1}  # fmt: skip
        data = self.call("Page.captureScreenshot", format="png", **options)["data"]
        path.write_bytes(base64.b64decode(data))
