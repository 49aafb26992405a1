"""Whether the cloud can make servers: on each of its compute hosts, whose number is the argument, and on networks whose ports come to life.

Prints what is missing and exits with 1 if it cannot. That a host is listed is not enough: it is before its nova-compute has told Placement what it has, which is up to a
minute later if Placement did not answer at once. That agents of Neutron report is not enough either: one has been seen to hear nothing. Where there is one for DHCP no
port of a subnet with DHCP is ACTIVE before it has served that, so it is given a network for a moment.
"""

import sys
import time

import openstack

PROBE, SECONDS = "lab-probe", 20
wanted = int(sys.argv[1])
cloud = openstack.connect()
network = cloud.network


def lacks(there, of, what):
    if len(there) < of:
        sys.exit(f"{len(there)} of {of} {what}.")


def remove():
    for made in network.networks(name=PROBE):
        network.delete_network(made)


lacks([s for s in cloud.compute.services(binary="nova-compute") if s.state == "up" and s.status == "enabled"], wanted, "compute hosts are up")
lacks(list(cloud.compute.hypervisors()), wanted, "compute hosts are listed")
query = {"resources": "VCPU:1,MEMORY_MB:64,DISK_GB:1", "required": "!COMPUTE_STATUS_DISABLED"}
room = cloud.placement.get("/allocation_candidates", params=query, microversion="1.22")
room.raise_for_status()
lacks(room.json()["provider_summaries"], wanted, "compute hosts have room according to Placement")

agents = list(network.agents())
lacks([a for a in agents if a.is_alive], len(agents), "agents of Neutron report")
if any(a.agent_type == "DHCP agent" for a in agents):
    remove()
    made = network.create_network(name=PROBE)
    try:
        network.create_subnet(network_id=made.id, ip_version=4, cidr="10.250.250.0/24")
        end = time.monotonic() + SECONDS
        while not any(p.status == "ACTIVE" for p in network.ports(network_id=made.id, device_owner="network:dhcp")):
            if time.monotonic() > end:
                sys.exit(f"The DHCP agent did not serve a new network within {SECONDS} s.")
            time.sleep(0.3)
    finally:
        remove()
