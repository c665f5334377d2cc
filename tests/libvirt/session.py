# A libvirtd of one version, in session mode, on vfio-sim's host.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Versions of libvirt, and a libvirtd that lives as long as a test."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from debian import AptRoot, say, unpack
from driver import host_arch

# libvirt takes root for its privileged mode, which needs a whole machine of
# its own. In a user namespace root's files are accessible to a user who is not
# root.
NOBODY = ['unshare', '--user', '--map-user=65534', '--map-group=65534']
IN_CHROOT = 'a chroot does not allow user namespaces, and libvirtd needs one'
# The second version that is tested, where the machine has the first
OTHER_SUITE = {'bookworm': 'bookworm-backports'}
# It has elements for accelerated SMMUv3s, and needs a newer C library
NEWEST_SUITE = 'forky'
PACKAGES = ['libvirt0', 'libvirt-clients', 'libvirt-common', 'libvirt-daemon',
            'libvirt-daemon-common', 'libvirt-daemon-driver-qemu']


def no_namespace() -> str:
    """'' if libvirtd can have a user namespace, else why it never can here.

    Linux refuses one to any process whose root directory is not that of its
    mount namespace. Such a root directory is usually not a mount point.
    """
    if os.geteuid() or not subprocess.run(
            [*NOBODY, 'true'], stdin=subprocess.DEVNULL, timeout=60,
            stderr=subprocess.DEVNULL, check=False).returncode:
        return ''
    mounts = Path('/proc/self/mountinfo').read_text().splitlines()
    ischroot = shutil.which('ischroot')
    known = ischroot and not subprocess.run([ischroot], timeout=60,
                                            check=False).returncode
    return IN_CHROOT if known or all(line.split()[4] != '/'
                                     for line in mounts) else ''


class LibvirtError(Exception):
    """A failure, with libvirt's message."""


@dataclass
class Version:
    """Where a version of libvirt is."""
    number: str
    daemon: str
    virsh: str
    env: Dict[str, str] = field(default_factory=dict)
    # Words before the two programs
    loader: List[str] = field(default_factory=list)
    # Where its schemas and a program for them are, if libvirtd has others
    top: Optional[Path] = None

    def at_least(self, major: int, minor: int) -> bool:
        """Whether it is this version or a newer one."""
        return tuple(map(int, self.number.split('.'))) >= (major, minor)


def _number(daemon: str, env: Dict[str, str],
            loader: Sequence[str] = ()) -> str:
    text = subprocess.run([*loader, daemon, '--version'],
                          env={**os.environ, **env},
                          stdout=subprocess.PIPE, text=True, timeout=30,
                          check=True).stdout
    match = re.search(r'(\d+\.\d+)\.\d+', text)
    if not match:
        raise LibvirtError(f'{daemon} is of no known version: {text}')
    return match.group(1)


def installed() -> Optional[Version]:
    """The machine's own."""
    paths = os.pathsep.join((os.environ.get('PATH', ''), '/usr/sbin'))
    daemon = shutil.which('libvirtd', path=paths)
    virsh = shutil.which('virsh')
    if not daemon or not virsh:
        return None
    return Version(_number(daemon, {}), daemon, virsh)


def _unpack(apt: AptRoot, names: List[str], top: Path) -> None:
    shutil.rmtree(top, ignore_errors=True)
    for package in apt.fetch(names):
        unpack(package, top)
    (top / 'complete').touch()


def newest(build: Path) -> Version:
    """The one of the next Debian release, with all libraries that it needs."""
    top = build / 'newest'
    if not (top / 'complete').exists():
        say(f'libvirt of {NEWEST_SUITE}:')
        apt = AptRoot(build / 'apt-newest', build / 'cache', host_arch(),
                      [NEWEST_SUITE])
        apt.update()
        # The driver's package alone depends on QEMU
        driver = PACKAGES[-1]
        libraries = apt.closure(PACKAGES[:-1], r'(?!lib|zlib1g)')
        _unpack(apt, libraries + [driver], top)
    loader = next(top.glob('usr/lib/*/ld-linux-*.so.*'))
    path = f'{loader.parent}:{loader.parent}/systemd'
    # QEMU must get the machine's libraries, so nothing is in the environment
    words = [str(loader), '--library-path', path]
    env = {'LIBVIRT_DRIVER_DIR': f'{loader.parent}/libvirt/connection-driver'}
    daemon = str(top / 'usr/sbin/libvirtd')
    return Version(_number(daemon, env, words), daemon,
                   str(top / 'usr/bin/virsh'), env, words, top)


def unpacked(build: Path) -> Optional[Version]:
    """A newer one for this Debian release, unpacked below the build."""
    release = re.search(r'^VERSION_CODENAME=(\w+)',
                        Path('/etc/os-release').read_text(encoding='utf-8'),
                        re.MULTILINE)
    suite = OTHER_SUITE.get(release.group(1) if release else '')
    if suite is None:
        return None
    top = build / 'other'
    if not (top / 'complete').exists():
        say(f'libvirt of {suite}:')
        apt = AptRoot(build / 'apt', build / 'cache', host_arch(), [suite])
        apt.update()
        _unpack(apt, PACKAGES, top)
    libraries = next(top.glob('usr/lib/*/libvirt.so.0')).parent
    env = {'LD_LIBRARY_PATH': str(libraries),
           'LIBVIRT_DRIVER_DIR': str(libraries / 'libvirt/connection-driver')}
    daemon = str(top / 'usr/sbin/libvirtd')
    return Version(_number(daemon, env), daemon, str(top / 'usr/bin/virsh'),
                   env)


class Session:
    """A libvirtd with all of its files in a temporary directory."""

    def __init__(self, version: Version, sim: Path, options: List[str],
                 log: Path) -> None:
        self.version = version
        # The path of a socket is limited to 107 characters
        self.place = Path(tempfile.mkdtemp(prefix='vfio-sim-libvirt-',
                                           dir='/tmp'))
        self.state = self.place / 'sim'
        self.log = log
        self.prefix = NOBODY if os.geteuid() == 0 else []
        self.daemon: Optional['subprocess.Popen[bytes]'] = None
        self.env = {**os.environ, **version.env, 'LC_ALL': 'C',
                    'HOME': str(self.place), 'LIBVIRT_AUTOSTART': '0'}
        for key, name in (('XDG_RUNTIME_DIR', 'run'),
                          ('XDG_CONFIG_HOME', 'config'),
                          ('XDG_CACHE_HOME', 'cache'),
                          ('XDG_DATA_HOME', 'data')):
            self.env[key] = str(self.place / name)
            (self.place / name / 'libvirt').mkdir(parents=True)
        # Without a daemon for logs, which is a package of its own
        (self.place / 'config/libvirt/qemu.conf').write_text(
            'stdio_handler = "file"\n', encoding='utf-8')
        subprocess.run([str(sim), '--raise-memlock', *options, '--prepare',
                        str(self.state)], check=True, timeout=60)
        library = subprocess.run([str(sim), '--library'], check=True, text=True,
                                 stdout=subprocess.PIPE, timeout=60)
        self.simulated = {'VFIO_SIM_DIR': str(self.state),
                          'LD_PRELOAD': library.stdout.strip()}

    def __enter__(self) -> 'Session':
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('wb') as out:
            self.daemon = subprocess.Popen(
                [*self.prefix, *self.version.loader, self.version.daemon,
                 '--timeout=300'],
                env={**self.env, **self.simulated}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.daemon.poll() is None:
            if self.virsh('list', check=False).returncode == 0:
                return self
            time.sleep(0.2)
        self.close()
        raise LibvirtError('libvirtd does not answer:\n' + self.log.read_text())

    def __exit__(self, *_: object) -> None:
        self.close()

    def virsh(self, *words: str, text: str = '', check: bool = True) -> \
            'subprocess.CompletedProcess[str]':
        """Run a command of virsh."""
        done = subprocess.run(
            [*self.prefix, *self.version.loader, self.version.virsh, '-q',
             '-c', 'qemu:///session', *words], env=self.env, input=text,
            text=True, timeout=60, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, check=False)
        if check and done.returncode:
            raise LibvirtError(f'virsh {words[0]}: {done.stderr.strip()}')
        return done

    def define(self, text: str) -> None:
        """Check a domain against the schema, and define it."""
        top = self.version.top
        if not top:
            self.virsh('define', '--validate', '/dev/stdin', text=text)
            return
        done = subprocess.run(
            [*self.version.loader, str(top / 'usr/bin/xmllint'), '--noout',
             '--relaxng', str(top / 'usr/share/libvirt/schemas/domain.rng'),
             '-'], input=text, text=True, timeout=60, stderr=subprocess.PIPE,
            check=False)
        if done.returncode:
            raise LibvirtError(f'the schema: {done.stderr.strip()}')
        self.virsh('define', '/dev/stdin', text=text)

    def state_of(self, name: str) -> str:
        """'running', 'shut off (shutdown)' and the like."""
        return self.virsh('domstate', '--reason', name).stdout.strip()

    def close(self) -> None:
        """End the VMs that are left, then libvirtd; leave no file."""
        if self.daemon and self.daemon.poll() is None:
            left = self.virsh('list', '--name', check=False).stdout.split()
            for name in left:
                self.virsh('destroy', name, check=False)
            self.daemon.terminate()
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.daemon.pid, signal.SIGKILL)
                self.daemon.wait()
        # QEMU is in a session of its own and survives libvirtd
        for pid_file in self.place.glob('run/libvirt/qemu/run/*.pid'):
            try:
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        shutil.rmtree(self.place, ignore_errors=True)
