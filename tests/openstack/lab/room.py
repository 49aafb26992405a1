"""Whether Nova can place a server on each of its compute hosts; the argument is their number. Prints what is missing and exits with 1 if it cannot.

That a host is listed is not enough: it is before its nova-compute has told Placement what it has, which is up to a minute later if Placement did not answer at once.
"""

import sys

import openstack

wanted = int(sys.argv[1])
cloud = openstack.connect()
up = [s.host for s in cloud.compute.services(binary="nova-compute") if s.state == "up" and s.status == "enabled"]
listed = list(cloud.compute.hypervisors())
query = {"resources": "VCPU:1,MEMORY_MB:64,DISK_GB:1", "required": "!COMPUTE_STATUS_DISABLED"}
room = cloud.placement.get("/allocation_candidates", params=query, microversion="1.22")
room.raise_for_status()
with_room = room.json()["provider_summaries"]
for what, there in (("are up", up), ("are listed", listed), ("have room according to Placement", with_room)):
    if len(there) < wanted:
        sys.exit(f"{len(there)} of {wanted} compute hosts {what}.")
