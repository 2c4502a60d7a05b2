"""The text of the files a host is configured with."""

from __future__ import annotations

INIT = r"""#!/bin/bash
# The first act of PID 1 inside a host's namespaces: hide what is the machine's, show what is the
# host's, and become a small init over sshd. Killing PID 1 is a power loss.
set -e
mount --make-rprivate /
hostname "$HOST_NAME"
# Programs the host needs (the compose tool and its Python) may live where the host has its own
# files; they are held in place until those are mounted.
mkdir -p "$HOST_DIR/kept"
n=0
for path in $KEPT_PATHS; do
  n=$((n + 1)); mkdir -p "$HOST_DIR/kept/$n"; mount --bind "$path" "$HOST_DIR/kept/$n"
done
mount --bind "$HOST_DIR/disk/containers" /var/lib/containers
mount --bind "$HOST_DIR/disk/root" /root
mount --bind "$HOST_DIR/disk/build" /build
mount --bind "$HOST_DIR/etc-containers" /etc/containers
mount -t tmpfs -o mode=755,size=512m tmpfs /run
mkdir -p /run/sshd /run/lock /run/host /run/podman
cp "$HOST_DIR/sshd_config" "$HOST_DIR/hostkey" /run/host/
chown 0:0 /run/host/hostkey
chmod 600 /run/host/hostkey
mount -t tmpfs -o mode=1777,size=512m tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=512m tmpfs /tmp
n=0
for path in $KEPT_PATHS; do
  n=$((n + 1)); mkdir -p "$path"; mount --bind "$HOST_DIR/kept/$n" "$path"
done
export HOME=/root
cd /
if [ -n "$ENGINE_SOCKET" ]; then
  setsid podman system service --time=0 "unix://$ENGINE_SOCKET" </dev/null >/run/podman/log 2>&1 &
fi
case $INIT in
  systemd) . "$HOST_DIR/init-systemd" ;;
  *) exec catatonit -- /usr/sbin/sshd -D -e -f /run/host/sshd_config ;;
esac
"""

INIT_SYSTEMD = r"""
# PID 1 is systemd, with no unit but ours: what is the machine's must not be started here. What is
# enabled on the host is on its disk, and there after a reboot.
mkdir -p "$HOST_DIR/disk/systemd" /run/nothing
# NOTE: it makes the tmpfs over the control groups read-only, and that of the machine must not be.
if [ -d /sys/fs/cgroup/systemd ]; then
  mkdir /run/cgroup
  mount -t tmpfs -o mode=755 tmpfs /run/cgroup
  for path in /sys/fs/cgroup/*; do
    mkdir "/run/cgroup/${path##*/}"; mount --bind "$path" "/run/cgroup/${path##*/}"
  done
  mount --rbind /run/cgroup /sys/fs/cgroup
fi
# It takes the control group it is born in for the root of its own.
for root in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
  [ ! -f "$root/cgroup.procs" ] || { mkdir -p "$root/$CGROUP"; echo $$ >"$root/$CGROUP/cgroup.procs"; }
done
mount --bind "$HOST_DIR/disk/systemd" /etc/systemd/system
for path in /usr/lib/systemd/system /usr/lib/systemd/system-generators /usr/local/lib/systemd; do
  [ ! -d "$path" ] || mount --bind /run/nothing "$path"
done
cd /etc/systemd/system
for target in sysinit basic shutdown timers; do
  printf '[Unit]\nDefaultDependencies=no\n' >$target.target
done
cat >host.target <<'UNIT'
[Unit]
Wants=sshd.service timers.target
UNIT
cat >sshd.service <<'UNIT'
[Service]
ExecStart=/usr/sbin/sshd -D -e -f /run/host/sshd_config
KillMode=process
UNIT
export container=rig
exec /lib/systemd/systemd --system --unit=host.target --log-target=console --show-status=no
"""

# MaxSessions is OpenSSH's default, which the transport must live with; MaxStartups is not, because
# tests connect more often than a person.
SSHD_CONFIG = """\
Port 22
ListenAddress {address}
HostKey /run/host/hostkey
AuthorizedKeysFile {authorized_keys}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
MaxSessions 10
MaxStartups 100
ClientAliveInterval 5
ClientAliveCountMax 2
Subsystem sftp internal-sftp
"""

REGISTRIES_CONF = """\
unqualified-search-registries = []
short-name-mode = "disabled"
"""

STORAGE_CONF = """\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""

# No systemd in a host: cgroups, events and logs are kept without it.
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
default_subnet = "10.100.0.0/16"
"""

POLICY_JSON = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
