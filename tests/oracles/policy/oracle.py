"""Asks the real oslo.policy. On standard input a JSON list of {"rules": {name: rule}, "rule", "creds", "target"}; on standard output a list of answers:
true, false, or the text of what was raised. Rules that do not parse are a FalseCheck with oslo.policy, as it has it."""

import json
import logging
import sys

from oslo_config import cfg
from oslo_policy import policy

logging.disable(logging.CRITICAL)
conf = cfg.ConfigOpts()
conf([], default_config_files=[])


def enforcer(rules):
    e = policy.Enforcer(conf, use_conf=False)
    e.set_rules(policy.Rules.from_dict(rules, default_rule=None), use_conf=False)
    return e


answers = []
known = {}
for case in json.load(sys.stdin):
    text = json.dumps(case["rules"], sort_keys=True)
    if text not in known:
        known[text] = enforcer(case["rules"])
    try:
        answers.append(bool(known[text].enforce(case["rule"], case["target"], case["creds"])))
    except Exception as e:
        answers.append("%s: %s" % (type(e).__name__, e))
json.dump(answers, sys.stdout)
