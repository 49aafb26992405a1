"""Who may do what in the lab's Keystone, and where the services are: projects, users, roles, endpoints. May be run again."""

import os
import pathlib

import openstack

ADDRESS = "10.77.0.1"
SERVICES = [
    ("glance", "image", f"http://{ADDRESS}:9292"),
    ("placement", "placement", f"http://{ADDRESS}:8778"),
    ("nova", "compute", f"http://{ADDRESS}:8774/v2.1"),
    ("neutron", "network", f"http://{ADDRESS}:9696"),
    ("cinder", "block-storage", f"http://{ADDRESS}:8776/v3/%(project_id)s"),
    ("cinderv3", "volumev3", f"http://{ADDRESS}:8776/v3/%(project_id)s"),
    ("swift", "object-store", f"http://{ADDRESS}:8080/v1/AUTH_%(project_id)s"),
    ("barbican", "key-manager", f"http://{ADDRESS}:9311"),
]
USERS = ["glance", "placement", "nova", "neutron", "cinder", "swift", "barbican"]

secrets = pathlib.Path(os.environ["LAB"], "secrets")
identity = openstack.connect().identity


def project(name):
    return identity.find_project(name) or identity.create_project(name=name, domain_id="default")


def role(name):
    return identity.find_role(name) or identity.create_role(name=name)


def user(name, home):
    found = identity.find_user(name)
    if not found:
        password = (secrets / f"user-{name}").read_text().strip()
        found = identity.create_user(name=name, password=password, domain_id="default", default_project_id=home.id)
    return found


admin, member, creator = role("admin"), role("member"), role("creator")  # the last is Barbican's
service = project("service")
identity.assign_project_role_to_user(service, identity.find_user("admin"), admin)
for name in USERS:
    identity.assign_project_role_to_user(service, user(name, service), admin)
for name in ("demo", "other"):
    tenant = project(name)
    for what in (member, creator):
        identity.assign_project_role_to_user(tenant, user(name, tenant), what)
    identity.assign_project_role_to_user(tenant, identity.find_user("admin"), admin)

known = {s.type: s for s in identity.services()}
endpoints = {(e.service_id, e.interface) for e in identity.endpoints()}
for name, kind, url in SERVICES:
    entry = known.get(kind) or identity.create_service(name=name, type=kind)
    for interface in ("public", "internal", "admin"):
        if (entry.id, interface) not in endpoints:
            identity.create_endpoint(service_id=entry.id, interface=interface, url=url, region_id="RegionOne")
