"""Runs tests of the unmodified trove-tempest-plugin in the unmodified Tempest, each in a process of its own.

The first line of the standard input says where and as whom, and is answered with the tests that there are, as "Class.test". Each line after it names one of
them, and is answered with {"code", "output"}: 0 for one that passed, else what was wrong; a skipped one has the code 0 and its reason in the output.

Its waits are made shorter: a look every 0.1 s in place of every 10 s. A service that shows something too early is caught more easily so.
"""
import importlib
import importlib.metadata
import json
import os
import pkgutil
import sys
import tempfile
import traceback
import unittest

SHORTER = 100

CONFIG = """
[DEFAULT]
log_dir = %(dir)s
[oslo_concurrency]
lock_path = %(dir)s
[auth]
use_dynamic_credentials = false
test_accounts_file = %(dir)s/accounts.yaml
[identity]
uri_v3 = %(auth_url)s
auth_version = v3
region = %(region)s
[identity-feature-enabled]
api_v2 = false
[service_available]
nova = true
neutron = false
cinder = false
glance = false
swift = false
trove = true
[database]
enabled_datastores = %(datastore)s
default_datastore_versions = %(datastore)s:%(version)s
pre_upgrade_datastore_versions = %(datastore)s:%(version)s
flavor_id = 1
resize_flavor_id = 2
volume_type = default
shared_network = %(network)s
rebuild_image_id = %(image)s
remove_swift_account = false
database_build_timeout = 120
backup_wait_timeout = 60
run_full_tests = true
"""


def configure(asked):
    where = tempfile.mkdtemp(prefix="tempest")
    with open(where + "/tempest.conf", "w") as f:
        f.write(CONFIG % dict(asked, dir=where))
    accounts = [{
        "username": a["user"], "password": a["password"], "project_name": a["project"], "user_domain_name": "Default", "project_domain_name": "Default",
        "domain_name": "Default", "types": a["types"], "roles": a["roles"],
    } for a in asked["accounts"]]
    os.umask(0o077)
    with open(where + "/accounts.yaml", "w") as f:
        json.dump(accounts, f)  # which is YAML too
    os.environ.update({"TEMPEST_CONFIG_DIR": where, "TEMPEST_CONFIG": "tempest.conf"})
    return where


def shorten():
    from oslo_service import loopingcall
    import time
    sleep, start = time.sleep, loopingcall.FixedIntervalWithTimeoutLoopingCall.start

    def shorter(self, interval, initial_delay=None, **more):
        return start(self, interval / SHORTER, initial_delay=(initial_delay or 0) / SHORTER, **more)
    loopingcall.FixedIntervalWithTimeoutLoopingCall.start = shorter
    time.sleep = lambda seconds: sleep(seconds / SHORTER if seconds >= 1 else seconds)


def installed():
    """The tests by their names."""
    from trove_tempest_plugin.tests import scenario
    found = {}
    for m in pkgutil.iter_modules(scenario.__path__):
        if not m.name.startswith("test_"):
            continue
        for case in unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(scenario.__name__ + "." + m.name)):
            for test in case:
                name = test.id().split("[")[0].split(".")
                found[".".join(name[-2:])] = test
    return found


class Result(unittest.TestResult):
    def said(self):
        bad = [text for _, text in self.errors + self.failures]
        return {"code": len(bad), "output": "\n".join(bad) or "".join("skipped: %s\n" % why for _, why in self.skipped)}


def carry_out(test, writer):
    try:
        result = Result()
        unittest.TestSuite([test]).run(result)  # with the set-up of its class
        answer = result.said()
        if result.testsRun == 0 and not answer["output"]:
            answer = {"code": 1, "output": "the test did not run"}
    except BaseException:
        answer = {"code": 1, "output": traceback.format_exc()}
    with os.fdopen(writer, "w") as f:
        json.dump(answer, f)
    os._exit(0)


def run(test):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        carry_out(test, writer)
    os.close(writer)
    with os.fdopen(reader) as f:
        text = f.read()
    os.waitpid(child, 0)
    return json.loads(text or '{"code": 1, "output": "the process ended"}')


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    where = configure(json.loads(sys.stdin.readline()))
    try:
        tests = installed()
        shorten()
        print(json.dumps({
            "tests": sorted(tests), "versions": {n: importlib.metadata.version(n) for n in ("tempest", "trove-tempest-plugin")},
        }), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(run(tests[json.loads(line)["args"][0]])), file=out, flush=True)
    finally:
        import shutil
        shutil.rmtree(where, ignore_errors=True)


main()
