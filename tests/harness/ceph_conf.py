"""The configuration of a test's Ceph cluster: everything at one address, small, and in a hurry."""

import dataclasses
from pathlib import Path

_TEXT = """\
[global]
fsid = {fsid}
mon_host = {mon_host}
mon_initial_members = a
public_network = {address}/32
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
admin_socket = {folder}/$name.asok
run_dir = {folder}
crash_dir = {folder}/crash
log_file =
log_to_stderr = true
err_to_stderr = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false

[mon]
mon_data = {folder}/mon
mon_cluster_log_to_file = false
mon_cluster_log_to_stderr = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
# Erasure coding is tried on memstore too, which is good enough for it as long as nobody scrubs.
mon_debug_no_require_bluestore_for_ec_overwrites = true

[mgr]
mgr_data = {folder}/mgr
mgr_pool = false
mgr_initial_modules =
mgr_stats_period = 1

[osd]
osd_data = {folder}/osd.$id
osd_objectstore = {store}
memstore_device_bytes = {bytes_per_osd}
bluestore_block_size = {bytes_per_osd}
bluestore_block_wal_size = 0
bluestore_block_db_size = 0
bluestore_fsck_on_mount = false
osd_memory_target = 939524096
osd_mgr_report_interval = 1
# A memstore is written out by an orderly end alone.
osd_fast_shutdown = false
# Where a stopped daemon is the test, its peers must not declare it dead.
osd_heartbeat_grace = 3600

[client]
admin_socket =
log_to_stderr = false
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What differs between clusters."""

    folder: Path
    fsid: str
    address: str
    mon_host: str
    store: str
    bytes_per_osd: int

    def write(self) -> Path:
        """Write `ceph.conf` into the folder; its path."""
        path = self.folder / "ceph.conf"
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        path.write_text(_TEXT.format(**values))
        return path
