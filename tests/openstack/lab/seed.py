"""What the lab's cloud holds when it is up: flavors, a volume type, networks, the image lab-tiny. May be run again.

LAB_SEED_MGMT=1 makes the management network and its security group, LAB_SEED_TROVE=1 the service's own user, as "trove openstack bootstrap" would."""

import os
import pathlib
import subprocess
import sys

import openstack

lab = pathlib.Path(os.environ["LAB"])
cloud = openstack.connect()
identity, network, compute = cloud.identity, cloud.network, cloud.compute

FLAVORS = [("lab.tiny", 64, 1, 1), ("db.tiny", 512, 1, 4), ("db.small", 768, 1, 5), ("db.medium", 1024, 1, 6), ("db.large", 1536, 2, 8)]


def flavors():
    for name, ram, cpus, disk in FLAVORS:
        if not compute.find_flavor(name):
            compute.create_flavor(name=name, ram=ram, vcpus=cpus, disk=disk)


def make_network(name, project, cidr, gateway, pool=None, **what):
    made = network.find_network(name, project_id=project) or network.create_network(name=name, project_id=project, **what)
    # "trove openstack bootstrap" gives the subnet another name.
    subnet = network.find_subnet(name, project_id=project) or next(network.subnets(network_id=made.id), None)
    if not subnet:
        # A subnet without a project would be the admin's, and the owner of the network would get no address on it.
        more = {"allocation_pools": [dict(zip(("start", "end"), pool))]} if pool else {}
        subnet = network.create_subnet(
            name=name, project_id=project, network_id=made.id, ip_version=4, cidr=cidr, gateway_ip=gateway, **more
        )
    return made, subnet


def networks():
    public, _ = make_network(
        "public", cloud.current_project_id, "172.24.4.0/24", "172.24.4.1", ("172.24.4.20", "172.24.4.250"),
        is_router_external=True, provider_network_type="flat", provider_physical_network="public",
    )  # fmt: skip
    for owner, name, cidr, gateway in (("demo", "tenant", "10.1.0.0/24", "10.1.0.1"), ("other", "other-tenant", "10.2.0.0/24", "10.2.0.1")):
        project = identity.find_project(owner).id
        _, subnet = make_network(name, project, cidr, gateway)
        label = "router" if owner == "demo" else owner + "-router"
        router = network.find_router(label) or network.create_router(
            name=label, project_id=project, external_gateway_info={"network_id": public.id}
        )
        joined = (ip["subnet_id"] for port in network.ports(device_id=router.id) for ip in port.fixed_ips)
        if subnet.id not in joined:
            network.add_interface_to_router(router, subnet_id=subnet.id)


def management():
    project = identity.find_project("service").id
    name = "trove-management"
    make_network(
        name, project, "10.77.0.0/24", None, ("10.77.0.20", "10.77.0.250"),
        provider_network_type="flat", provider_physical_network="mgmt",
    )  # fmt: skip
    group = next(network.security_groups(name=name, project_id=project), None)
    if group:
        return
    group = network.create_security_group(name=name, project_id=project)
    for rule in list(network.security_group_rules(security_group_id=group.id)):
        network.delete_security_group_rule(rule)
    network.create_security_group_rule(
        security_group_id=group.id, project_id=project, direction="egress", ethertype="IPv4", protocol="tcp", remote_ip_prefix="10.77.0.1/32"
    )


def service_user():
    project = identity.find_project("service")
    if not identity.find_user("trove"):
        password = (lab / "secrets" / "user-trove").read_text().strip()
        identity.create_user(name="trove", password=password, domain_id="default", default_project_id=project.id)
    identity.assign_project_role_to_user(project, identity.find_user("trove"), identity.find_role("admin"))


def volume_type():
    if not any(t.name == "rbd" for t in cloud.block_storage.types()):
        cloud.block_storage.create_type(name="rbd", extra_specs={"volume_backend_name": "rbd"})


def tiny_image():
    if cloud.image.find_image("lab-tiny"):
        return
    file = str(lab / "tiny.img")
    subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("tiny.py")), file], check=True)
    cloud.create_image(
        "lab-tiny", filename=file, wait=True, visibility="public", container_format="bare", disk_format="raw", use_import=False,
        os_shutdown_timeout="0",  # it does not hear the power button
    )  # fmt: skip


flavors()
networks()
volume_type()
tiny_image()
if os.environ.get("LAB_SEED_MGMT") == "1":
    management()
if os.environ.get("LAB_SEED_TROVE") == "1":
    service_user()
