# Debian packages without installing them: private apt roots, for any
# architecture, that use the mirror this machine's own apt is set up with.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Fetch and unpack Debian packages with apt roots of our own."""

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional

KEYRING = Path('/usr/share/keyrings/debian-archive-keyring.gpg')


class GuestError(Exception):
    """An error to be fixed by the user; the text says how."""


def say(text: str) -> None:
    """Show progress at once."""
    print(text, flush=True)


def megabytes(size: float) -> str:
    """A size for people."""
    return f'{size / 1e6:.1f} MB' if size >= 1e5 else f'{size / 1e3:.1f} kB'


def own_mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    try:
        text = subprocess.run(
            ['apt-get', 'indextargets', '--format',
             '$(COMPONENT)|$(ORIGIN)|$(REPO_URI)|$(SITE)',
             'Created-By: Packages'],
            check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as err:
        raise GuestError(
            'apt-get is needed to fetch guest kernels: ' + str(err)) from err
    best = None
    for line in text.splitlines():
        component, origin, uri = line.split('|')[:3]
        if component != 'main' or origin not in ('Debian', ''):
            continue
        if 'security' in uri:
            continue
        if origin == 'Debian':
            return uri
        # Before the first 'apt-get update' the origin is not known
        if best is None and uri.rstrip('/').endswith('debian'):
            best = uri
    if best is None:
        raise GuestError(
            "apt's sources on this machine name no Debian mirror. Guest "
            'kernels come from one: add a Debian source to apt, or copy a '
            'filled build/guest/cache from another machine.')
    return best


class AptRoot:
    """One private apt configuration for one architecture."""

    def __init__(self, base: Path, cache: Path, arch: str,
                 suites: Iterable[str]) -> None:
        self.base = base.resolve()
        self.cache = cache.resolve()
        self.arch = arch
        self.suites = list(suites)
        self.conf = self.base / 'apt.conf'
        self.updated = False

    def _env(self) -> Dict[str, str]:
        return {**os.environ, 'APT_CONFIG': str(self.conf), 'LC_ALL': 'C',
                'DEBIAN_FRONTEND': 'noninteractive'}

    def _apt(self, *args: str, timeout: int = 120) -> str:
        try:
            done = subprocess.run(list(args), env=self._env(), text=True,
                                  capture_output=True, timeout=timeout,
                                  stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired as err:
            raise GuestError(f"'{' '.join(args[:2])}' gave no answer in "
                             f'{timeout} s; check the network') from err
        if done.returncode:
            raise GuestError(f"'{' '.join(args)}' failed:\n"
                             + done.stderr.strip())
        return done.stdout

    def update(self) -> None:
        """Write the configuration and fetch the package lists."""
        if self.updated:
            return
        if not KEYRING.exists():
            raise GuestError(f'{KEYRING} is missing: install the package '
                             'debian-archive-keyring.')
        mirror = own_mirror()
        for name in ('lists/partial', 'cache/archives/partial'):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        (self.base / 'status').write_text('')
        (self.base / 'sources.list').write_text(''.join(
            f'deb [arch={self.arch} signed-by={KEYRING}] {mirror} {suite} '
            'main\n' for suite in self.suites))
        # The machine's own apt.conf.d stays in force: a proxy is set there.
        # This file is read before it, so nothing here may be a list.
        self.conf.write_text(f'''
APT::Architecture "{self.arch}";
APT::Architectures {{ "{self.arch}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "{self.base}";
Dir::State::lists "{self.base}/lists";
Dir::State::status "{self.base}/status";
Dir::Cache "{self.base}/cache";
Dir::Etc::sourcelist "{self.base}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Bin::dpkg "/bin/false";
''')
        say(f'  package lists of {", ".join(self.suites)} for {self.arch}')
        try:
            self._apt('apt-get', '-qq', '-o', 'APT::Update::Error-Mode=any',
                      'update')
        except GuestError as err:
            raise GuestError(
                'Cannot fetch the package lists of Debian '
                f'{", ".join(self.suites)} for {self.arch}. Without a '
                'network only a filled build/guest/cache will do.\n'
                + str(err)) from err
        self.updated = True

    def names(self, pattern: str) -> List[str]:
        """Names of the packages that match a regular expression."""
        text = self._apt('apt-cache', 'search', '--names-only', pattern)
        return [line.split(' - ')[0] for line in text.splitlines()]

    def closure(self, names: Iterable[str],
                without: str = r'(?!)') -> List[str]:
        """Names and what they depend on, less what matches WITHOUT."""
        text = self._apt('apt-get', '-s', '-y', '--no-install-recommends',
                         'install', *names)
        found = re.findall(r'^Inst (\S+)', text, re.M)
        return [name for name in found if not re.match(without, name)]

    def fetch(self, names: Iterable[str]) -> List[Path]:
        """Bring packages into the cache; returns their files."""
        names = list(names)
        if not names:
            return []
        uris = self._apt('apt-get', '--print-uris', 'download', *names)
        self.cache.mkdir(parents=True, exist_ok=True)
        files = []
        wanted = []
        for line in uris.splitlines():
            match = re.match(r"'[^']*' (\S+) (\d+)", line)
            if not match:
                continue
            path = self.cache / match.group(1)
            files.append(path)
            if not path.exists() or path.stat().st_size != int(match[2]):
                wanted.append((path, int(match[2])))
        total = sum(size for _, size in wanted)
        done = 0
        for path, size in wanted:
            done += size
            # A line for each small library would hide the rest
            if size > 1e6 or path == wanted[-1][0]:
                say(f'  fetching {path.name} ({megabytes(size)}; '
                    f'{megabytes(done)} of {megabytes(total)})')
            self._download(path)
        return files

    def _download(self, path: Path) -> None:
        # NAME_VERSION_ARCH.deb, with a colon written as %3a
        name, version = path.name.split('_')[:2]
        partial = self.cache / 'partial'
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            subprocess.run(
                ['apt-get', '-qq', 'download',
                 f"{name}={version.replace('%3a', ':')}"],
                env=self._env(), cwd=partial, check=True, timeout=1200,
                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except subprocess.TimeoutExpired as err:
            raise GuestError(f'fetching {path.name} took more than 20 '
                             'minutes: try again.') from err
        except subprocess.CalledProcessError as err:
            raise GuestError(f'cannot fetch {path.name}:\n'
                             + err.stderr.strip()) from err
        for found in partial.iterdir():
            found.rename(path)
        partial.rmdir()


def unpack(deb: Path, into: Path,
           want: Optional[Callable[[str], bool]] = None) -> None:
    """Unpack the files of a package whose path WANT accepts."""
    into.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', str(deb)],
                          stdout=subprocess.PIPE) as proc:
        assert proc.stdout is not None
        with tarfile.open(fileobj=io.BufferedReader(proc.stdout, 1 << 20),
                          mode='r|') as tar:
            for member in tar:
                name = member.name[2:] if member.name.startswith('./') \
                    else member.name
                if not name or (want and not want(name)):
                    continue
                member.name = name
                if os.geteuid():
                    member.mode |= 0o600
                tar.extract(member, into, set_attrs=not member.issym(),
                            numeric_owner=True)
        while proc.stdout.read(1 << 20):
            pass
    if proc.returncode:
        raise GuestError(f'{deb} cannot be unpacked; delete it and try again')
