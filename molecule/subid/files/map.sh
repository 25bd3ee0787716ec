#!/usr/bin/env bash
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What shadow's own tools let users do: map the whole range, and not one ID more. Prints the maps that came of it.
# map.sh USER:UID_START:UID_COUNT:GID_START:GID_COUNT...
set -euo pipefail

refused() {
  if "$@" 2> /dev/null; then
    echo "$(id -un) was allowed: $*" >&2
    exit 1
  fi
}

check() {
  set -euo pipefail
  local uids=$1 uid_count=$2 gids=$3 gid_count=$4
  coproc NEW { exec unshare --user sh -c 'echo; exec sleep 60'; }
  # shellcheck disable=SC2064 # this process, now
  trap "kill $NEW_PID" EXIT
  read -r _ <&"${NEW[0]}"
  refused newuidmap "$NEW_PID" 0 "$(id -u)" 1 1 "$uids" $((uid_count + 1))
  refused newuidmap "$NEW_PID" 0 "$(id -u)" 1 1 $((uids - 1)) "$uid_count"
  refused newgidmap "$NEW_PID" 0 "$(id -g)" 1 1 "$gids" $((gid_count + 1))
  refused newgidmap "$NEW_PID" 0 "$(id -g)" 1 1 $((gids - 1)) "$gid_count"
  newuidmap "$NEW_PID" 0 "$(id -u)" 1 1 "$uids" "$uid_count"
  newgidmap "$NEW_PID" 0 "$(id -g)" 1 1 "$gids" "$gid_count"
  # Without the line of the user's own ID.
  sed -s 1d "/proc/$NEW_PID/uid_map" "/proc/$NEW_PID/gid_map" | xargs echo "$(id -un)"
}
export -f check refused

for what; do
  IFS=: read -r name uids uid_count gids gid_count <<< "$what"
  runuser -u "$name" -- env -C / bash -c 'check "$@"' check "$uids" "$uid_count" "$gids" "$gid_count"
done
