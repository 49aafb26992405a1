"""Runs the unmodified OpenStack clients, each command in a process of its own.

The process is forked from this one, which has read the clients' modules already: a client takes most of its time for that. Requests are lines of JSON
on the standard input ({"program", "args", "env"}, or {} for what is installed), answers are lines of JSON on the standard output ({"code", "output"}).
"""
import importlib.metadata
import json
import os
import pkgutil
import sys
import traceback


def modules(package):
    for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".tests" not in m.name and ".compat" not in m.name:
            try:
                __import__(m.name)
            except Exception:  # a module whose own requirements are not installed: the command that needs it says so
                pass


def load():
    import keystoneauth1.identity
    import keystoneauth1.loading._plugins
    import openstackclient.shell
    import troveclient.osc.v1
    import troveclient.shell
    import troveclient.v1
    for package in (keystoneauth1.identity, keystoneauth1.loading._plugins, troveclient.osc.v1, troveclient.v1):
        modules(package)


def installed():
    points = importlib.metadata.entry_points()
    group = points.select(group="openstack.database.v1")
    import troveclient.v1.shell
    return {
        "openstack": sorted({p.name.replace("_", " ") for p in group}),
        "trove": sorted(n[3:].replace("_", "-") for n in dir(troveclient.v1.shell) if n.startswith("do_")),
        "versions": {n: importlib.metadata.version(n) for n in ("python-troveclient", "python-openstackclient")},
    }


def command(request, output):
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["/usr/bin/" + request["program"]] + request["args"]
    try:
        if request["program"] == "openstack":
            from openstackclient import shell
            code = shell.main(request["args"])
        else:
            from troveclient import shell
            code = shell.main()
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def run(request):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        command(request, writer)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as f:
        text = f.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "output": text}


load()
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(run(asked) if asked else installed()), flush=True)
