#!/usr/bin/env bash
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Becomes a host, in a mount namespace of its own: boot.sh NAME LABEL CGROUP DIRECTORY IMAGE
set -euo pipefail
name=$1 label=$2 cgroup=$3 directory=$4 image=$5

echo $$ > "$cgroup/cgroup.procs"
# systemd inside wants cgroup 2 where it expects it, whatever this machine has there.
while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup || break; done
mount -t cgroup2 none /sys/fs/cgroup
# nspawn's locks and sockets: not shared with the machine's.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mount -t overlay overlay -o "lowerdir=$image,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"

# nspawn's system call filter would answer open_by_handle_at with EPERM; rootless containers write sysctls.
# /home is no overlay, since containers put overlays of their own there.
exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes \
  systemd-nspawn --quiet --boot --register=no --keep-unit --directory="$directory/root" \
  --machine="$name" --hostname="$name" --network-namespace-path="/run/netns/$label" \
  --link-journal=no --resolv-conf=off --timezone=off --console=pipe \
  --capability=CAP_NET_ADMIN --bind="$directory/home:/home"
