#!/usr/bin/env bash
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A container in a host: PID and mount namespaces of its own, the user namespace of the host, and in it a user with the UID
# of one of the host's, whose Podman keeps a pause process. Runs as PID 1 there: box.sh DIRECTORY UID
set -euo pipefail
directory=$1 uid=$2
root=$directory/root

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$root"
for name in run tmp home; do mount -t tmpfs -o mode=755 tmpfs "$root/$name"; done
for name in dev sys; do mount --rbind "/$name" "$root/$name"; done
mount -t proc proc "$root/proc"
cd "$root"
/bin/busybox pivot_root . .
umount -l .
cd /

chmod 1777 /tmp
name=$(id -nu "$uid")
sed -i "s/^$name:/boxed:/" /etc/passwd /etc/shadow /etc/group
sed -i "/^$name:/d" /etc/subuid /etc/subgid
echo boxed:300000000:65536 | tee -a /etc/subuid >> /etc/subgid
install -d -m 700 -o boxed "/run/user/$uid" /home/boxed
runuser -u boxed -- env -C / HOME=/home/boxed "XDG_RUNTIME_DIR=/run/user/$uid" podman unshare true
touch /run/ready
exec sleep infinity
