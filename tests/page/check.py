"""The checks; each prints a line: ok, FAIL or skipped."""

import argparse
import json
import sys
import tempfile
import time
import traceback
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from browser import Browser
from stage import DISAGREEMENTS, HOSTILE, SEVERAL, Process, StandIn

VERDICT = "document.getElementById('verdict').textContent"
VISIBLE = "(e => e.checkVisibility({visibilityProperty: true}))"
# Of a list of tabs the chosen one is reached by Tab, the others by arrows.
CONTROLS = (
    "[...document.querySelectorAll('a[href], button, summary, input, select, textarea, [role=tab], [tabindex=\"0\"]')]"
    f".filter({VISIBLE}).filter(e => e.getAttribute('aria-selected') !== 'false')"
)

results = {"ok": 0, "FAIL": 0, "skipped:": 0}


def say(word: str, name: str, text: str):
    """Print a line and count it."""
    results[word] += 1
    print(f"{word} {name}: {text}", flush=True)


def check(name: str, holds: bool, text: str):
    """Say whether something is as it should be."""
    say("ok" if holds else "FAIL", name, text)


def wide(browser: Browser, name: str):
    """Nothing is wider than a phone, or a window of 320 pixels."""
    for width in (360, 320):
        browser.size(width, 740, mobile=True)
        time.sleep(0.3)
        is_wide = browser.evaluate("document.documentElement.scrollWidth")
        check(f"{name}-{width}", is_wide <= width, f"{is_wide} of {width} pixels")
    browser.size(1280, 900)


def accessible(browser: Browser, name: str, axe: str):
    """Find what axe-core takes for serious, light and dark."""
    if not axe:
        say("skipped:", f"axe-{name}", "axe-core can't be had from npm")
        return
    browser.evaluate("typeof axe === 'object'") or browser.evaluate(Path(axe).read_text() + "; 0")
    browser.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    for scheme in ("light", "dark"):
        browser.media(color_scheme=scheme, reduced_motion="reduce")
        time.sleep(0.6)
        found = json.loads(
            browser.evaluate(
                "axe.run(document).then(r => JSON.stringify({passes: r.passes.length, violations: r.violations.map("
                "v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.target.join(' ') + ' ' + n.failureSummary)])}))"
            )
        )
        serious = [each for each in found["violations"] if each[0] in ("serious", "critical")]
        lesser = ", ".join(f"{impact} {rule}" for impact, rule, _ in found["violations"] if [impact] not in serious)
        check(
            f"axe-{name}-{scheme}",
            not serious,
            f"{found['passes']} rules hold, serious: {serious}, all: {lesser or 'none'}",
        )
    browser.media()


def keyboard(browser: Browser, name: str):
    """Every control is reached by Tab alone, in the order of the document, and one sees where one is."""
    expected = browser.evaluate(f"{CONTROLS}.map(e => e.id || e.textContent.trim() || e.getAttribute('aria-label'))")
    browser.evaluate("document.activeElement?.blur(); window.scrollTo(0, 0); getSelection().removeAllRanges()")
    browser.evaluate(
        "document.body.setAttribute('tabindex', '-1'); document.body.focus(); document.body.removeAttribute('tabindex')"
    )
    reached, invisible = [], []
    for _ in range(len(expected) + 5):
        browser.press("Tab", 9)
        now = browser.evaluate(
            "(e => e === document.body ? null : [e.id || e.textContent.trim() || e.getAttribute('aria-label'),"
            " getComputedStyle(e).outlineStyle !== 'none' && parseFloat(getComputedStyle(e).outlineWidth) >= 2])"
            "(document.activeElement)"
        )
        if now is None:
            break
        if now[0] in reached:
            break
        reached.append(now[0])
        if not now[1]:
            invisible.append(now[0])
    missing = [control for control in expected if control not in reached]
    check(
        f"keyboard-{name}",
        not missing and expected == reached,
        f"{len(reached)} controls by Tab, not reached: {missing}",
    )
    check(f"focus-{name}", not invisible, f"invisible focus: {invisible}")


def clean(browser: Browser, name: str):
    """No error on the console but the section that a sidecar does not have when it keeps no disagreements."""
    browser.evaluate("0")
    problems = [problem for problem in browser.problems if "/disagreements.json" not in problem]
    check(f"console-{name}", not problems, f"errors: {problems}")
    browser.problems.clear()


def live(browser: Browser, options, directory: Path, stack: ExitStack):
    """A good candidate on live traffic: the verdict comes without a reload."""
    binary = Path(options.bin)
    socket = directory / "server.sock"

    def start(name, *command):
        process = Process(directory, name, *command)
        stack.callback(process.stop)
        return process

    free = ["--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    start(
        "server",
        str(binary / "understudy-server"),
        "--models",
        f"{options.examples}/models/adult",
        *free,
        "--unix-socket",
        str(socket),
        "--drain-delay",
        "0s",
    )
    shadow = [str(binary / "shadow-sidecar"), "--primary", f"unix:{socket}", "--gate", "0.98", "--min-duration", "4s"]
    # A slow build of a sidecar beside a quick server would drop so many that no verdict follows, and rightly so.
    shadow += ["--queue", "1000000", "--queue-bytes", "1000000000"]
    good = start("good", *shadow, "--candidate", f"{options.examples}/models/adult-candidate", *free)
    bad = start("bad", *shadow, "--candidate", f"{options.examples}/models/adult-candidate-bad", *free)
    url, bad_url = (f"http://{sidecar.ports['admin']}" for sidecar in (good, bad))

    browser.size(1280, 900)
    browser.open(f"{url}/")
    browser.wait("the first event", f"!document.getElementById('live').hidden && {VERDICT} !== ''")
    before = browser.evaluate(VERDICT)
    browser.evaluate("window.sameDocument = true")
    check("live-begins", before.startswith("Undecided"), before)
    load = Process(
        directory,
        "load",
        str(binary / "understudy"),
        "load",
        "--server",
        f"unix:{socket}",
        "--connections",
        "1",
        "--in-flight",
        "1",
        "--duration",
        "12s",
        f"{options.examples}/adult/rows.csv",
        ports=False,
    )
    stack.callback(load.stop)
    browser.wait("a promotion", f"{VERDICT}.startsWith('Promote')", 60)
    check(
        "live-verdict",
        browser.evaluate("window.sameDocument === true"),
        f"{before!r} became {browser.evaluate(VERDICT)!r} without a reload",
    )
    region = browser.evaluate("document.getElementById('verdict').closest('[aria-live]')?.getAttribute('aria-live')")
    check("live-announced", region == "polite", f"aria-live={region}")
    load.process.wait(60)
    # What is still in flight when the load ends is compared, too.
    idle = "document.querySelector('#conservation tbody tr:last-child td').textContent === '0'"
    browser.wait("that nothing is in flight", idle, 60)
    time.sleep(2.5)
    headline = browser.evaluate("document.getElementById('headline').textContent")
    check("live-headline", "without a single label" in headline and "%" in headline, headline)
    for place in ("agreement", "delta", "latency"):
        text = browser.evaluate(f"document.querySelector('#{place}-chart svg[role=img] desc')?.textContent ?? ''")
        check(f"chart-{place}", any(digit.isdigit() for digit in text), text)
    shown = browser.evaluate("[...document.querySelectorAll('#flips tbody td')].map(e => e.textContent)")
    check("flips", len(shown) == 4 and all("%" in cell for cell in shown), str(shown))
    table = browser.evaluate(
        "[...document.querySelectorAll('#conservation tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    sums = [[int(cell.replace(",", "")) for cell in row[1:]] for row in table]
    check(
        "conservation",
        sums[0] == [sum(column) for column in zip(*sums[1:], strict=True)] and sums[0][0] > 0,
        str(table),
    )
    browser.wait("the disagreements", "!document.getElementById('disagreements-card').hidden", 30)
    differing = browser.evaluate(
        "[...document.querySelectorAll('#disagreements tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    note = browser.evaluate("document.getElementById('disagreements-note').textContent")
    check(
        "disagreements",
        len(differing) > 0
        and all(any("K -> " in cell for cell in row) and any("age " in cell for cell in row) for row in differing)
        and note.startswith(f"{len(differing)} of "),
        f"{len(differing)} rows; {note}",
    )

    clean(browser, "live")
    keyboard(browser, "live")
    pause(browser)
    if options.screenshots:
        for scale, name, width in ((1, "desktop", 1280), (2, "phone", 360)):
            browser.size(width, 900, mobile=width < 500, scale=scale)
            time.sleep(0.5)
            browser.screenshot(Path(options.screenshots) / f"report-{name}.png", 2000 if width > 500 else 1300)
    wide(browser, "no-sideways-scroll-live")
    accessible(browser, "live", options.axe)
    browser.media(reduced_motion="reduce")
    moving = browser.evaluate(
        "[...document.querySelectorAll('*')].map(e => getComputedStyle(e))"
        ".filter(style => style.transitionDuration !== '0s' || style.animationName !== 'none').length"
    )
    check("reduced-motion", moving == 0, f"{moving} elements move")
    browser.media()

    browser.open(f"{bad_url}/")
    browser.wait("a rejection", f"{VERDICT}.startsWith('Reject')", 30)
    check("live-reject", True, browser.evaluate(VERDICT))
    clean(browser, "reject")

    without_script(browser, url)
    hostile(browser, options, bad_url)
    lost(browser, url, good, start, shadow, options)


def pause(browser: Browser):
    """The button holds the page still, by the keyboard."""
    browser.evaluate("document.getElementById('pause').focus()")
    browser.press(" ", 32, " ")
    paused = browser.evaluate(
        "['aria-pressed'].map(name => document.getElementById('pause').getAttribute(name))"
        ".concat(document.getElementById('connection').textContent)"
    )
    check("pause", paused == ["true", "paused"], str(paused))
    browser.press(" ", 32, " ")
    check(
        "pause-ends",
        browser.evaluate("document.getElementById('pause').getAttribute('aria-pressed')") == "false",
        "pressed again",
    )
    browser.evaluate("document.querySelector('summary').focus()")
    browser.press("Enter", 13, "\r")
    rows = browser.evaluate(
        "document.querySelector('details').open ? document.querySelectorAll('#agreement-table tbody tr').length : 0"
    )
    check("details", rows >= 2, f"opened by Enter, {rows} rows")
    browser.evaluate("document.querySelector('details').open = false; document.activeElement.blur()")


def without_script(browser: Browser, url: str):
    """The figures of the moment are there without JavaScript."""
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.call("Page.navigate", url=f"{url}/")
    time.sleep(1.5)
    root = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#still")["nodeId"]
    html = browser.call("DOM.getOuterHTML", nodeId=node)["outerHTML"]
    with urllib.request.urlopen(f"{url}/report.json", timeout=10) as answer:
        verdict = json.load(answer)["verdict"]
    words = [f"Verdict: {verdict}", "without a single label", "Coverage", '<a href="/report.json">']
    check("without-script", all(word in html for word in words), f"{len(html)} characters of HTML with {words}")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


def hostile(browser: Browser, options, sidecar: str):
    """Names that are markup stay text; several candidates are tabs; what is unknown is listed."""
    stand_in = StandIn(sidecar, SEVERAL, DISAGREEMENTS)
    browser.open(f"{stand_in.url}/")
    browser.wait("the disagreements", "!document.getElementById('disagreements-card').hidden", 30)
    scripts = browser.evaluate("[document.querySelectorAll('script').length, document.querySelectorAll('img').length]")
    check(
        "hostile-is-text",
        scripts == [1, 0] and browser.dialogs == 0,
        f"[scripts, images] {scripts}, {browser.dialogs} dialogs",
    )
    body = browser.evaluate("document.body.innerText")
    check("hostile-is-shown", body.count(HOSTILE) >= 12, f"{body.count(HOSTILE)} times as text")
    sections = browser.evaluate(
        "['slices', 'disagreements', 'more'].filter(name => !document.getElementById(`${name}-card`).hidden)"
    )
    check("optional-sections", len(sections) == 3, str(sections))
    clean(browser, "hostile")
    keyboard(browser, "several")
    wide(browser, "no-sideways-scroll-hostile")
    accessible(browser, "hostile", options.axe)
    browser.evaluate("document.querySelector('[role=tab][aria-selected=true]').focus()")
    browser.press("ArrowRight", 39)
    now = browser.evaluate(f"[document.activeElement.id, {VERDICT}]")
    check("tabs", now[0] == "tab-1" and now[1].startswith("Promote"), f"arrow right leads to {now}")
    stand_in.close()
    for name, told in {
        "empty": {},
        "of-another-shape": {"verdict": "maybe", "reasons": "none", "flips": {"a": 1}, "agreement": []},
    }.items():
        stand_in = StandIn(sidecar, told)
        browser.open(f"{stand_in.url}/")
        browser.wait("the page", "!document.getElementById('live').hidden")
        clean(browser, name)
        check(f"report-{name}", browser.evaluate(VERDICT) != "", browser.evaluate(VERDICT))
        stand_in.close()
    stand_in = StandIn(sidecar, SEVERAL, stream=False)
    browser.open(f"{stand_in.url}/")
    browser.wait("the page without a stream", f"{VERDICT}.startsWith('Reject')")
    say("ok", "without-stream", browser.evaluate("document.getElementById('connection').textContent"))
    browser.problems.clear()
    stand_in.close()


def lost(browser: Browser, url: str, good: Process, start, shadow: list, options):
    """The sidecar goes and comes back; the page follows."""
    browser.open(f"{url}/")
    state = "document.getElementById('connection').dataset.state"
    browser.wait("the stream", f"{state} === 'live'")
    began = time.monotonic()
    code = good.stop()
    check(
        "stream-ends",
        code == 0,
        f"the sidecar drained with code {code} in {time.monotonic() - began:.1f} s with a page open",
    )
    browser.wait("that the page sees it", f"{state} === 'lost'")
    say("ok", "lost", browser.evaluate("document.getElementById('connection').textContent"))
    start(
        "again",
        *shadow,
        "--candidate",
        f"{options.examples}/models/adult-candidate",
        "--grpc-listen",
        "127.0.0.1:0",
        "--admin-listen",
        good.ports["admin"],
    )
    browser.wait("that the page follows again", f"{state} === 'live' && {VERDICT}.startsWith('Undecided')", 60)
    say("ok", "found-again", browser.evaluate(VERDICT))


def main() -> int:
    """Run everything."""
    parser = argparse.ArgumentParser()
    for name in ("bin", "examples", "chromium", "axe", "screenshots"):
        parser.add_argument(f"--{name}", default="")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            browser = Browser(options.chromium, directory)
            stack.callback(browser.close)
            say("ok", "browser", browser.call("Browser.getVersion")["product"])
            live(browser, options, directory, stack)
        except Exception as error:
            traceback.print_exc()
            say("FAIL", "page", f"{type(error).__name__}: {error}")
    print(f"{results['ok']} passed, {results['FAIL']} failed, {results['skipped:']} skipped")
    return 1 if results["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
