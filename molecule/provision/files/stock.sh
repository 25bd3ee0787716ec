#!/bin/sh
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the role might change, for comparison: settings, installed packages, who lingers, what runs, the map tools.
find /etc /var/lib/systemd/linger -type f -exec sha256sum {} + | sort
dpkg-query --show
ls -l /run/user /usr/bin/new?idmap 2>&1
systemctl --no-pager list-units --plain --no-legend --state=active 'user@*'
