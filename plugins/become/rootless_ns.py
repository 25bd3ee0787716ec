# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: rootless_ns
short_description: Run tasks inside a user's rootless namespace
version_added: 1.0.0
description:
  - Runs a task as root of the user and mount namespace in which the user's rootless containers live, as
    C(podman unshare) does. Files have the owners that containers give them, and the task may change them.
  - Podman is not needed, and need not work. Nothing is installed on the host; it needs Python 3.9 or later.
  - The namespace is joined through its pin, through Podman's C(ns_handles), or through Podman's C(pause.pid), whichever
    works first, and only after the kernel has said that it is the user's.
  - From root's connection the task becomes the user directly. Where the connection is the user's own, it joins at once.
    From any other account C(sudo) is used to become the user. The user needs no login shell.
  - C(HOME), C(USER), C(XDG_RUNTIME_DIR) and the C(_CONTAINERS_*) variables are set as Podman sets them. Little of the
    environment of the account that connects is kept.
author:
  - The userns.rootless authors (@userns-rootless)
options:
  become_user:
    description: The user whose namespace is joined, by name or UID. It cannot be root.
    type: string
    required: true
    keyword:
      - name: become_user
    ini:
      - section: privilege_escalation
        key: become_user
      - section: rootless_ns_become_plugin
        key: user
    vars:
      - name: ansible_become_user
      - name: ansible_rootless_ns_user
    env:
      - name: ANSIBLE_BECOME_USER
      - name: ANSIBLE_ROOTLESS_NS_USER
  become_exe:
    description: The C(sudo) program, where it is needed.
    type: string
    default: sudo
    keyword:
      - name: become_exe
    ini:
      - section: privilege_escalation
        key: become_exe
      - section: rootless_ns_become_plugin
        key: executable
    vars:
      - name: ansible_become_exe
      - name: ansible_rootless_ns_exe
    env:
      - name: ANSIBLE_BECOME_EXE
      - name: ANSIBLE_ROOTLESS_NS_EXE
  become_flags:
    description:
      - Options for C(sudo). With a password, C(-n) is left out, and C(-p) must not be given, since C(sudo) is told a
        prompt that others cannot guess.
    type: string
    default: -H -S -n
    keyword:
      - name: become_flags
    ini:
      - section: privilege_escalation
        key: become_flags
      - section: rootless_ns_become_plugin
        key: flags
    vars:
      - name: ansible_become_flags
      - name: ansible_rootless_ns_flags
    env:
      - name: ANSIBLE_BECOME_FLAGS
      - name: ANSIBLE_ROOTLESS_NS_FLAGS
  become_pass:
    description: The password for C(sudo).
    type: string
    vars:
      - name: ansible_become_password
      - name: ansible_become_pass
      - name: ansible_rootless_ns_pass
    env:
      - name: ANSIBLE_BECOME_PASS
      - name: ANSIBLE_ROOTLESS_NS_PASS
    ini:
      - section: rootless_ns_become_plugin
        key: password
  create:
    description:
      - What to do where the user has no namespace. V(true) sets one up as M(userns.rootless.rootless_ns) does by
        default, V(false) fails.
    type: bool
    default: true
    ini:
      - section: rootless_ns_become_plugin
        key: create
    vars:
      - name: ansible_rootless_ns_create
    env:
      - name: ANSIBLE_ROOTLESS_NS_CREATE
  python:
    description:
      - The Python on the host that joins the namespace. Names such as V(auto), which ask Ansible to find one, mean
        C(python3).
    type: string
    default: python3
    ini:
      - section: rootless_ns_become_plugin
        key: python
    vars:
      - name: ansible_python_interpreter
      - name: ansible_rootless_ns_python
    env:
      - name: ANSIBLE_ROOTLESS_NS_PYTHON
notes:
  - Modules are best sent through pipelining. Without it they are put into files, which the user must be able to read
    inside its namespace, as are the files that M(ansible.builtin.copy) and M(ansible.builtin.template) send. That takes
    the package C(acl) on the host, unless the connection is the user's own, and C(remote_tmp) on a file system that was
    mounted when the namespace was made. Where a file cannot be read, the task says so.
  - Without C(acl), on root's connection, Ansible says that it failed to change ownership of the temporary files. With
    other become methods it makes the user the owner of its temporary directory then, and writes there as root, so that
    the user can have any file of root's overwritten. With this one it cannot.
  - What runs in a namespace can be seen and changed by the user whose namespace it is, just as with C(sudo -u). Do not
    send secrets there, and do not trust what comes back more than anything else that the user says.
  - The become password is sent only to C(sudo), at most once for each task, and never once the namespace is entered.
    On a connection as the user itself, the user's own shell can ask for it.
seealso:
  - module: userns.rootless.rootless_ns
"""

import re
import shlex
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.become import BecomeBase

from ansible_collections.userns.rootless.plugins.module_utils._rootless.through_sudo import ANNOUNCEMENT, PROMPT
from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

_ANNOUNCED = re.compile(rb"%s([0-9a-f]{32}) " % ANNOUNCEMENT.encode())


# After a user's name, where Ansible would make the user the owner of files: chown(1) knows nobody of that name then.
_NOT_AN_OWNER = ":install the package acl on the host, or turn on pipelining"


class _BecomeUser(str):
    """A user's name with which Ansible becomes a user and sets ACLs, but changes no owner.

    Ansible compares it with the connection's user, and leaves out the become method where both are the same; then the
    task would silently run outside of the namespace. So it differs from every other.

    Where a host has no setfacl(1), Ansible on root's connection makes the user the owner of its temporary directory,
    and goes on to write there as root (see `_fixup_perms2` of ansible.plugins.action): the user can put a link there,
    and have any file of root's overwritten. The text as chown(1) gets it is no user's name, so that this fails.
    """

    _name: str

    def __new__(cls, name: str) -> _BecomeUser:
        user = super().__new__(cls, f"{name}{_NOT_AN_OWNER}")
        user._name = name
        return user

    def __str__(self) -> str:
        return self._name

    def __format__(self, spec: str) -> str:
        return format(self._name, spec)

    def __eq__(self, other: object) -> bool:
        return bool(self._name == str(other))

    def __ne__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(self._name)


class BecomeModule(BecomeBase):  # type: ignore[misc]
    name = "userns.rootless.rootless_ns"

    _has_become = False
    _key = b""

    # sudo's own words.
    fail = ("Sorry, try again.",)
    missing = ("Sorry, a password is required to run sudo", "sudo: a password is required")

    def get_option(self, option: str, hostvars: Any = None, playcontext: Any = None) -> Any:
        value = super().get_option(option, hostvars=hostvars, playcontext=playcontext)
        return _BecomeUser(str(value)) if option == "become_user" and value else value

    def build_become_command(self, cmd: str, shell: Any) -> str:
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        user = self.get_option("become_user")
        if not user or user == "root":
            raise AnsibleError(
                "become_method userns.rootless.rootless_ns: become_user must name the user whose namespace is joined, "
                f"not {user or 'nobody'}"
            )
        asks = bool(self.get_option("become_pass"))
        # Made anew for each command: the key is known only when sudo is about to ask.
        self._has_become, self._key = False, b""
        self.prompt = PROMPT.format(key="unknown") if asks else ""
        source = program(
            str(user), sudo=self._sudo(), create=self.get_option("create"), success=self.success, asks=asks
        )
        python = self.get_option("python")
        if re.match(r"auto(_|$)", python):
            python = "python3"
        # The program itself reports that becoming has worked. The shell cannot: it is in the namespace, where the user
        # decides what it is.
        command = shlex.quote(cmd)
        if getattr(shell, "executable", None):
            command = f"{shell.executable} -c {command}"
        # More than a path may be given, as with ansible_python_interpreter.
        return f"{python} -I -S -c {shlex.quote(source)} {command}"

    def check_success(self, b_output: bytes) -> bool:
        """Whether the output holds the line of success. From then on nothing is taken for a prompt any more."""
        found = bool(super().check_success(b_output))
        self._has_become = self._has_become or found
        return found

    def check_password_prompt(self, b_output: bytes) -> bool:
        """Whether sudo asks for the password: in its prompt is the key that was announced before sudo was started."""
        if self._has_become:
            return False
        if not self._key:
            announced = _ANNOUNCED.search(b_output)
            if not announced:
                return False
            self._key = announced[1]
            self.prompt = PROMPT.format(key=self._key.decode())
        return self.prompt.encode() in b_output

    def strip_become_prompt(self, data: bytes) -> bytes:
        """The output without what has announced a prompt, and without the prompt."""
        return _ANNOUNCED.sub(b"", bytes(super().strip_become_prompt(data)), count=1)

    def _sudo(self) -> list[str]:
        flags = self._words("become_flags")
        if self.get_option("become_pass"):
            flags = [flag for flag in map(_interactive, flags) if flag]
        return [*self._words("become_exe"), *flags]

    def _words(self, option: str) -> list[str]:
        value = self.get_option(option) or ""
        try:
            return shlex.split(value)
        except ValueError as error:
            raise AnsibleError(f"{option} of become_method userns.rootless.rootless_ns, {value!r}: {error}") from error


def _interactive(flag: str) -> str:
    """An option of sudo, or several that take no argument, without the wish not to be asked for a password."""
    if flag in ("-n", "--non-interactive"):
        return ""
    return flag if flag.startswith("--") else re.sub(r"^(-[ABEHKNPSVbeiklsv]*)n", r"\1", flag)
