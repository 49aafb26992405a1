"""Keystone's own client, told what to do by lines of JSON on standard input; each is answered by a line of JSON.

{"do": "login", "url", "user", "password", "project"}          -> {"token"}
{"do": "revoke", "url", "token"}                               -> {}
{"do": "setup", "url", "password", "api"}                      -> {"projects": {name: id}}; makes what the tests expect
"""

import json
import sys

from keystoneauth1 import session, token_endpoint
from keystoneauth1.identity import v3
from keystoneclient.v3 import client

USERS = {
    "anna": ("blue", ["member", "reader"]),
    "root": ("blue", ["admin"]),
    "otto": ("red", ["member"]),
    "trove": ("service", ["service"]),
    "nova": ("service", ["service"]),
}


def keystone(url, user, password, project):
    auth = v3.Password(
        url, username=user, password=password, project_name=project,
        user_domain_name="Default", project_domain_name="Default",
    )
    return session.Session(auth=auth)


def setup(url, password, api):
    c = client.Client(session=keystone(url, "admin", password, "admin"), interface="internal")
    roles = {r.name: r for r in c.roles.list()}
    if "service" not in roles:
        roles["service"] = c.roles.create("service")
    projects = {}
    for user, (project, names) in USERS.items():
        if project not in projects:
            projects[project] = c.projects.create(project, "default")
        u = c.users.create(user, "default", password=password)
        for name in names:
            c.roles.grant(roles[name], user=u, project=projects[project])
    service = c.services.create("trove", "database")
    for interface in ("public", "internal", "admin"):
        c.endpoints.create(service, api + "/v1.0/$(project_id)s", interface, region="RegionOne")
    return {"projects": {name: p.id for name, p in projects.items()}}


def do(request):
    what = request.pop("do")
    if what == "setup":
        return setup(**request)
    if what == "login":
        return {"token": keystone(**request).get_token()}
    token = request["token"]
    with_it = session.Session(auth=token_endpoint.Token(request["url"], token))
    client.Client(session=with_it).tokens.revoke_token(token)
    return {}


for line in sys.stdin:
    try:
        answer = do(json.loads(line))
    except Exception as e:  # the test shows it
        answer = {"error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(answer), flush=True)
