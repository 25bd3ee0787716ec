# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules in processes forked from one that has imported them: what root's test runs cost is mostly the imports.

`module_server.py SITE SOCKET MODULE...`: a request is JSON on a connection, with the descriptors for stdout and stderr.
The connection is closed when the module has ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module

SITE, SOCKET, MODULES = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path.insert(0, SITE)

from ansible.module_utils.testing import patch_module_args


def serve(connection: socket.socket, listener: socket.socket) -> None:
    request, fds, _flags, _address = socket.recv_fds(connection, 1 << 20, 2)
    if os.fork() != 0:
        for fd in fds:
            os.close(fd)
        return
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wanted = json.loads(request)
    for number, fd in enumerate(fds, start=1):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(wanted["env"])
    try:
        with patch_module_args(wanted["args"]):
            loaded[wanted["module"]].main()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        # The connection, closed by the exit, tells that all was written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


loaded = {name: import_module(f"ansible_collections.userns.rootless.plugins.modules.{name}") for name in MODULES}
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
    listener.bind(SOCKET)
    listener.listen(100)
    print("ready", flush=True)
    while True:
        connection, _address = listener.accept()
        with connection:
            serve(connection, listener)
