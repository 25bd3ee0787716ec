#!/bin/sh
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the roles might leave behind, for comparison. Arguments: the users.
exec 2> /dev/null
export LC_ALL=C
# Backups of passwd and the like tell of the edit before.
find /etc /usr/local ! -name '*-' -printf '%M %u:%g %p -> %l\n' | sort
find /etc /usr/local -type f ! -name '*-' -exec sha256sum {} + | sort -k 2
# Locks of Podman's stay where they are: taking one away would let two in. So do the directories.
find /run/rootless-ns | sort
find /run/user/*/libpod /tmp/storage-run-* /tmp/podman-run-* ! -type d ! -name ns_handles.lock | sort
find /run/user /var/lib/systemd/linger /var/lib/systemd/timers -mindepth 1 -maxdepth 1 | sort
systemctl list-unit-files --plain --no-legend --no-pager | sort
systemctl list-units --all --plain --no-legend --no-pager '*rootless*' 'user*' | awk '{ print $1, $2, $3 }' | sort
systemctl list-timers --all --no-legend --no-pager | awk '{ print $(NF - 1), $NF }' | sort
findmnt --list --noheadings --output TARGET,SOURCE,FSTYPE | sort
for name in "$@"; do find "/home/$name" | sort; done
# Also of users who are gone, or who are of a namespace.
ps -e -o user=,args= | awk '$1 ~ /^(rns|[0-9])/ { print $1, $2, $3 }' | sort
