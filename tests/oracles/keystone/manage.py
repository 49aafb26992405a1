"""keystone-manage, with the password for bootstrap on standard input: neither arguments nor the environment of a process are for it."""

import os
import sys

if "bootstrap" in sys.argv:
    os.environ["OS_BOOTSTRAP_PASSWORD"] = sys.stdin.readline().strip()

from keystone.cmd import manage  # noqa: E402: it reads the environment when it is imported

manage.main()
