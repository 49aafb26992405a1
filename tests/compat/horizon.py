"""Drives the unmodified Horizon with trove-dashboard as a browser without JavaScript does.

Requests are lines of JSON on the standard input, answers are lines of JSON on the standard output. The first request says who logs in where, and is answered
with what is installed; the others are {"args": [WHAT, PATH, ...]}:

    show PATH                    gets a page
    wait PATH TEXT               gets a page until it shows the text
    submit PATH NAME=VALUE...    gets a page, fills in its form and sends it
    press PATH TABLE BUTTON ROW  gets a page and presses a button in the row of a table

A page must have the fields, choices and buttons that are named: what Horizon does not offer cannot be used. A choice may be named by its text. Redirects are
followed. The answer's code is the number of HTTP errors and error messages, its output the messages and what the last page shows.
"""
import html.parser
import importlib.metadata
import json
import logging
import os
import re
import sys
import time
import traceback
import urllib.parse
import warnings

VOID = {"input", "br", "img", "hr", "meta", "link", "source", "wbr", "col", "area", "base", "embed", "param", "track"}
HIDDEN = {"script", "style", "head", "noscript", "template", "nav", "footer"}
BLOCKS = {"tr", "p", "div", "dt", "h1", "h2", "h3", "h4", "li", "table", "form", "fieldset", "pre", "label", "option"}


class Page(html.parser.HTMLParser):
    """What a page shows, and its forms."""

    def __init__(self, text):
        super().__init__()
        self.forms, self.lines, self.words, self.problems, self.stack = [], [], [], [], []
        self.form = self.select = self.option = self.area = self.box = None
        self.feed(text)
        self.flush()

    def flush(self):
        line = " ".join(" ".join(self.words).split())
        if line and line.strip("| "):
            self.lines.append(line)
        self.words = []

    def line(self, tag):
        """Ends the line at the bounds of blocks; a row of a table is one line."""
        if tag in ("tr", "table") or tag in BLOCKS and not any(t in ("td", "th") for t, _ in self.stack):
            self.flush()

    def handle_starttag(self, tag, attrs):
        a = {k: v or "" for k, v in attrs}
        if tag not in VOID:
            self.stack.append((tag, a))
        self.line(tag)
        if tag == "tr":
            self.words.append(a.get("data-object-id", ""))
        if tag in ("td", "th", "dd"):
            self.words.append("|")
        if tag == "form":
            self.form = {"action": a.get("action", ""), "fields": [], "choices": {}, "buttons": []}
            self.forms.append(self.form)
        if self.form is not None:
            self.field(tag, a)

    def field(self, tag, a):
        name = a.get("name")
        if tag == "input" and name:
            kind = a.get("type", "text")
            if kind in ("checkbox", "radio"):
                self.box = self.form["choices"].setdefault(name, [])  # the text that follows names the last of them
                self.box.append((a.get("value", "on"), ""))
                if "checked" in a:
                    self.form["fields"].append((name, a.get("value", "on")))
            elif kind in ("submit", "button", "image"):
                self.form["buttons"].append((name, a.get("value", "")))
            else:
                self.form["fields"].append((name, a.get("value", "")))
        elif tag == "button" and name:
            self.form["buttons"].append((name, a.get("value", "")))
        elif tag == "textarea" and name:
            self.area = [name, ""]
        elif tag == "select" and name:
            self.select = {"name": name, "multiple": "multiple" in a, "chosen": [], "all": []}
        elif tag == "option" and self.select:
            self.option = [a.get("value"), "selected" in a, ""]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i][0] == tag:
                del self.stack[i:]
                break
        self.line(tag)
        if tag == "form":
            self.form = None
        if self.form is None:
            return
        if tag == "textarea" and self.area:
            self.form["fields"].append(tuple(self.area))
            self.area = None
        if tag == "option" and self.option:
            value = self.option[0] if self.option[0] is not None else self.option[2].strip()
            self.select["all"].append((value, " ".join(self.option[2].split())))
            if self.option[1]:
                self.select["chosen"].append(value)
            self.option = None
        if tag == "select" and self.select:
            s, self.select = self.select, None
            self.form["choices"].setdefault(s["name"], []).extend(s["all"])
            chosen = s["chosen"] or ([s["all"][0][0]] if s["all"] and not s["multiple"] else [])
            self.form["fields"].extend((s["name"], v) for v in chosen)

    def handle_data(self, data):
        if self.area:
            self.area[1] += data
        if self.option:
            self.option[2] += data
        if any(tag in HIDDEN for tag, _ in self.stack) or not data.strip():
            return
        self.words.append(data.strip())
        if self.box:
            value, _ = self.box.pop()
            self.box.append((value, data.strip()))
            self.box = None
        # An error of a field: in a help-block of a group that has one.
        if any("has-error" in a.get("class", "") for _, a in self.stack) and any("help-block" in a.get("class", "") for _, a in self.stack):
            self.problems.append(data.strip())


class Browser:
    def __init__(self, login):
        from django.core.signals import got_request_exception
        from django.test import Client
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        got_request_exception.connect(self.failed)
        self.errors, self.notes = [], []
        page = self.get("/auth/login/?next=/project/databases/")
        page = self.send(page, page.forms[0], {"username": login["user"], "password": login["password"]})
        if self.errors or not self.path.startswith("/project/databases/"):
            raise RuntimeError("the login failed: %s\n%s" % (self.errors, "\n".join(page.lines)))

    def failed(self, **_):
        self.errors.append(traceback.format_exc(limit=-1))

    def follow(self, response):
        """The page that a browser shows in the end, with the messages on the way."""
        for _ in range(10):
            self.path = response.request["PATH_INFO"] + ("?" + response.request["QUERY_STRING"] if response.request["QUERY_STRING"] else "")
            if response.status_code >= 400:
                self.errors.append("HTTP %d" % response.status_code)
            if not 300 <= response.status_code < 400:
                break
            response = self.client.get(urllib.parse.urljoin(self.path, response["Location"]))
        else:
            self.errors.append("redirected for ever")
        text = response.content.decode()
        if response.get("Content-Type", "").startswith("text/html"):
            page = Page(text)
            for level, shown in Alerts(text).all:
                (self.errors if level in ("danger", "error") else self.notes).append(shown)
            self.errors.extend(page.problems)
            return page
        page = Page("")
        page.lines = text.splitlines()
        return page

    def get(self, path):
        return self.follow(self.client.get(path))

    def send(self, page, form, values, button=None):
        """Sends a form with some of its fields changed."""
        fields = list(form["fields"])
        for name, value in values.items():
            choices, there = form["choices"].get(name), any(n == name for n, _ in fields)
            if choices is None and not there:
                raise LookupError("the form has no field %s; it has %s" % (name, sorted({n for n, _ in fields} | set(form["choices"]))))
            if choices is not None and value not in [v for v, _ in choices]:
                named = [v for v, text in choices if text == value or text.startswith(value + " ")]
                if len(named) != 1:
                    raise LookupError("%s has no one choice %s; it has %s" % (name, value, choices))
                value = named[0]
            fields = [f for f in fields if f[0] != name] + [(name, value)]
        if button:
            fields.append(button)
        body = urllib.parse.urlencode(fields)
        to = urllib.parse.urljoin(self.path, form["action"])
        return self.follow(self.client.post(to, body, content_type="application/x-www-form-urlencoded"))


class Alerts(html.parser.HTMLParser):
    """The messages above a page: elements of the classes alert and alert-LEVEL."""

    def __init__(self, text):
        super().__init__()
        self.all, self.depth, self.level, self.words = [], 0, None, []
        self.feed(re.sub("(?s)<noscript>.*?</noscript>", "", text))

    def handle_starttag(self, tag, attrs):
        if tag in VOID:
            return
        names = (dict(attrs).get("class") or "").split()
        if not self.level and "alert" in names and "help-block" not in names:
            levels = [n[6:] for n in names if n.startswith("alert-") and n not in ("alert-dismissable", "alert-dismissible")]
            self.level, self.depth, self.words = (levels or ["none"])[0], 0, []
        if self.level:
            self.depth += 1

    def handle_endtag(self, tag):
        if not self.level or tag in VOID:
            return
        self.depth -= 1
        if self.depth == 0:
            text = " ".join(" ".join(self.words).split())
            if text and "{" not in text:
                self.all.append((self.level, text.replace("\u00d7", "").strip()))
            self.level = None

    def handle_data(self, data):
        if self.level:
            self.words.append(data)


def perform(browser, args):
    what, path, *rest = args
    page = browser.get(path)
    if what == "show":
        return page
    if browser.errors:
        return page
    if what == "wait":
        for _ in range(100):
            if any(rest[0] in line for line in page.lines):
                return page
            time.sleep(0.2)
            page = browser.get(path)
        raise LookupError("the page did not show %s in time" % rest[0])
    if what == "submit":
        values = dict(r.split("=", 1) for r in rest)
        named = [f for f in page.forms if set(values) <= {n for n, _ in f["fields"]} | set(f["choices"]) and f["action"]]
        if not named:
            raise LookupError("no form of the page has all of %s: %s" % (sorted(values), [
                (f["action"], sorted({n for n, _ in f["fields"]} | set(f["choices"]))) for f in page.forms]))
        return browser.send(page, named[-1], values)
    if what == "press":
        for form in page.forms:
            for button in form["buttons"]:
                if button == ("action", "__".join(rest)):
                    return browser.send(page, form, {}, button)
        raise LookupError("no button %s; there are %s" % (rest, [v for f in page.forms for _, v in f["buttons"]]))
    raise LookupError("what is %s?" % what)


def run(browser, args):
    browser.errors, browser.notes = [], []
    lines = []
    try:
        lines = perform(browser, args).lines
    except Exception:
        browser.errors.append(traceback.format_exc(limit=-1))
    output = ["error: " + e for e in browser.errors] + ["message: " + n for n in browser.notes] + ["at: " + browser.path] + lines
    return {"code": len(browser.errors), "output": "\n".join(output) + "\n"}


SETTINGS = """
from openstack_dashboard.settings import *
DEBUG = False
ALLOWED_HOSTS = ["*"]
SECRET_KEY = %(secret)r
OPENSTACK_KEYSTONE_URL = %(auth_url)r
AVAILABLE_REGIONS = []
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
COMPRESS_ENABLED = COMPRESS_OFFLINE = False
COMPRESS_PRECOMPILERS = ()
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
LOGGING = {"version": 1, "disable_existing_loggers": True}
"""


def panels():
    """Switches on the panels that are off, and off those that the package has not got. Returns the latter."""
    import importlib
    import pkgutil
    import openstack_dashboard.local.enabled as enabled
    absent = []
    for m in pkgutil.iter_modules(enabled.__path__):
        module = importlib.import_module(enabled.__name__ + "." + m.name)
        panel = getattr(module, "ADD_PANEL", None)
        if panel is None:
            continue
        try:
            found = importlib.util.find_spec(panel.rsplit(".", 1)[0]) is not None
        except ImportError:
            found = False
        module.DISABLED = not found
        if not found:
            absent.append(module.PANEL)
    return sorted(absent)


def views():
    """The paths of the dashboard's pages, as Horizon has them."""
    from django.urls import get_resolver
    found = []

    def walk(resolver, prefix):
        for p in resolver.url_patterns:
            path = prefix + str(p.pattern).lstrip("^").rstrip("$").replace("\\Z", "")
            if hasattr(p, "url_patterns"):
                walk(p, path)
            elif getattr(p.callback, "__module__", "").startswith("trove_dashboard"):
                found.append(path)
    walk(get_resolver(), "/")
    return found


def buttons():
    """The buttons in the rows of the dashboard's tables that are no links to a form."""
    from horizon import tables
    found = set()

    def walk(c):
        for s in c.__subclasses__():
            walk(s)
            if s.__module__.startswith("trove_dashboard"):
                found.update("%s %s" % (s._meta.name, a.name) for a in s._meta.row_actions if not issubclass(a, tables.LinkAction))
    walk(tables.DataTable)
    return sorted(found)


def start(login):
    import tempfile
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "DJANGO_SETTINGS_MODULE": "compat_settings"})
    import types
    warnings.showwarning = lambda *_, **__: None  # Horizon sets filters of its own
    sys.path.insert(0, "/usr/share/openstack-dashboard")
    absent = panels()
    module = types.ModuleType("compat_settings")
    module.__file__ = os.path.join(tempfile.gettempdir(), "compat_settings.py")
    exec(compile(SETTINGS % {"secret": os.urandom(32).hex(), "auth_url": login["auth_url"]}, module.__file__, "exec"), module.__dict__)
    sys.modules["compat_settings"] = module
    import django
    django.setup()
    logging.disable(logging.CRITICAL)
    return absent


def main():
    login = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Horizon prints
    absent = start(login)
    browser = Browser(login)
    print(json.dumps({
        "views": sorted(views()), "buttons": buttons(), "absent": absent,
        "versions": {n: importlib.metadata.version(n) for n in ("horizon", "trove-dashboard", "python-troveclient")},
    }), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(browser, json.loads(line)["args"])), file=out, flush=True)


main()
