"""Draws digits on the page as a user does, and holds what the page says to what was drawn (test.sh compiles the network first).

    test.py [PICTURE.png]

Chromium is driven by chromedriver over WebDriver's protocol, which is HTTP and JSON: nothing beyond Python is needed. A picture of the page is written where it
is asked for.
"""

import base64, functools, http.server, json, math, pathlib, subprocess, sys, threading, time, urllib.error, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CHROMIUM = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--window-size=820,720"]


def arc(x, y, rx, ry, start, end):
    """Points of an arc; angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / 32) for i in range(33)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


# Strokes, as parts of the drawing area's side from its middle.
DIGITS = {
    0: [arc(0, 0, 0.2, 0.3, -90, 270)],
    1: [[(0.02, -0.3), (0, 0.3)]],
    2: [arc(0, -0.14, 0.18, 0.16, -170, 40) + [(-0.2, 0.28), (0.22, 0.28)]],
    3: [arc(0, -0.15, 0.17, 0.14, -160, 90) + arc(0, 0.15, 0.2, 0.16, -90, 150)],
    4: [[(-0.12, -0.28), (-0.2, 0.06), (0.2, 0.06)], [(0.12, -0.25), (0.1, 0.32)]],
    5: [[(0.18, -0.28), (-0.14, -0.28), (-0.16, -0.04)] + arc(-0.02, 0.12, 0.18, 0.17, -130, 150)],
    6: [[(0.1, -0.3), (-0.1, -0.1), (-0.16, 0.1)] + arc(0, 0.14, 0.16, 0.15, 180, 540)],
    7: [[(-0.2, -0.26), (0.2, -0.26), (-0.04, 0.32)]],
    8: [arc(0, -0.15, 0.14, 0.14, 60, -240) + arc(0, 0.14, 0.16, 0.15, -120, 240)],
    9: [arc(0, -0.13, 0.15, 0.15, 0, -360) + [(0.14, 0.0), (0.08, 0.32)]],
}
# A four whose top is nearly closed.
FOUR_OR_NINE = [[(-0.1, -0.28), (-0.2, 0.06), (0.2, 0.06)], [(-0.07, -0.28), (0.12, -0.2), (0.1, 0.32)]]


class Browser:
    """A session of WebDriver."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        self.session = None
        port = next(line.split()[-1].rstrip(".") for line in self.driver.stdout if " on port " in line and "started" in line)
        self.at = f"http://127.0.0.1:{port}/session"
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": CHROMIUM}, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = self.post("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self.at += f"/{self.session}"

    def post(self, command, body=None, method="POST"):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.at + command, data, {"Content-Type": "application/json"}, method=method)
        try:
            return json.load(urllib.request.urlopen(request, timeout=60))["value"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{command}: {error.read().decode()}") from None

    def open(self, url):
        self.post("/url", {"url": url})

    def ask(self, script):
        return self.post("/execute/sync", {"script": f"return {script}", "args": []})

    def answer(self):
        """What the page says, once the network is there."""
        until = time.monotonic() + 10
        while (said := self.ask("document.getElementById('answer').value")) == "Loading" and time.monotonic() < until:
            time.sleep(0.02)
        return said

    def act(self, kind, device, actions, **more):
        self.post("/actions", {"actions": [{"type": kind, "id": device, "actions": actions, **more}]})

    def draw(self, strokes, pointer="mouse"):
        """Strokes by a pointer, from the middle of the drawing area on."""
        box = self.ask("(({ left, top, width, height }) => [left, top, width, height])(document.getElementById('pad').getBoundingClientRect())")
        actions = []
        for stroke in strokes:
            moves = [{"type": "pointerMove", "duration": 0, "x": round(box[0] + (0.5 + x) * box[2]), "y": round(box[1] + (0.5 + y) * box[3])} for x, y in stroke]
            actions += [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        self.act("pointer", pointer, actions, parameters={"pointerType": pointer})

    def press(self, keys):
        self.act("key", "keys", [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")])

    def click(self, element):
        self.ask(f"document.getElementById('{element}').click()")

    def complaints(self):
        return [entry["message"] for entry in self.post("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def close(self):
        if self.session:
            self.post("", method="DELETE")
        self.driver.terminate()
        self.driver.wait()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def holds(what, want, have):
    if want != have:
        raise SystemExit(f"{what}: {have!r} instead of {want!r}")


def test(browser, url, picture):
    browser.open(url)
    holds("at the beginning", "Draw a digit", browser.answer())
    for digit, strokes in DIGITS.items():
        for scale, pointer in [(1, "mouse"), (0.5, "touch")]:
            browser.draw([[(x * scale, y * scale) for x, y in stroke] for stroke in strokes], pointer)
            holds(f"{digit} by {pointer}, scale {scale}", f"This is a {digit}", browser.answer())
            browser.click("clear")
            holds("after Clear", "Draw a digit", browser.answer())
    print(f"{len(DIGITS)} digits are told, by mouse and by touch")

    browser.draw(FOUR_OR_NINE)
    percents = browser.ask("[...document.querySelectorAll('#bars td:last-child')].map((cell) => parseFloat(cell.textContent))")
    holds("the likeliest for a four or nine", [4, 9], sorted(range(10), key=lambda digit: -percents[digit])[:2])
    holds("the sum of the probabilities", 100, round(sum(percents)))
    if picture:
        time.sleep(0.3)  # until bars have grown
        pathlib.Path(picture).write_bytes(base64.b64decode(browser.post("/screenshot", method="GET")))
    browser.click("clear")

    down, space, escape = "\ue015", " ", "\ue00c"
    browser.ask("document.getElementById('pad').focus()")
    browser.press([space] + 12 * [down] + [space])
    holds("1 by keys", "This is a 1", browser.answer())
    print("a 1 by keys:", browser.ask("document.getElementById('time').textContent"))
    browser.press([escape])
    holds("after Esc", "Draw a digit", browser.answer())
    holds("what the browser complains of", [], browser.complaints())

    browser.open((HERE / "index.html").as_uri())
    if "serve this folder" not in (said := browser.answer()):
        raise SystemExit(f"a page that was opened as a file says {said!r}")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=HERE))
threading.Thread(target=server.serve_forever, daemon=True).start()
browser = Browser()
try:
    test(browser, f"http://127.0.0.1:{server.server_port}/", sys.argv[1] if len(sys.argv) > 1 else None)
finally:
    browser.close()
