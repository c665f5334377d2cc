# A guest's device through reboots, resets, kexec, unplug and plug.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Life cycles, in a bounded and in a long form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from boot import (SINCE_V5, Backing, Case, Harness, new_seed, pairs,
                  vfio_device)
from console import PATIENCE, Session
from debian import GuestError
from image import add_files
from tests import SessionTest, power_off
from topology import ONE, SWITCH

# Kernels that take the memory away while Memory Space is off.
SPACE_GATE = ('v4', 'v5')

# The device is used as a whole once; after that what would notice a change
BRIEF = 'token,peek,patterns,dma,signature'


@dataclass(frozen=True)
class Counts:
    """How often."""
    reboots: int
    system_resets: int
    resets: int
    replugs: int
    # How many of the unplugs wait for the guest's own five seconds
    buttons: int


SHORT = Counts(reboots=3, system_resets=1, resets=20, replugs=5, buttons=1)
LONG = Counts(reboots=20, system_resets=10, resets=200, replugs=50,
              buttons=50)


class LifeTest(SessionTest):
    """One QEMU from start to end."""

    STEPS = ('start', 'resets', 'replug', 'reboot', 'system-reset', 'kexec',
             'end')

    def __init__(self, machine: str, kernel: str, counts: Counts) -> None:
        name = f'{machine}-life-{kernel}' + (
            '-long' if counts is LONG else '')
        self.prefix = f'guest/{name}/'
        super().__init__(name, machine,
                         [self.prefix + step for step in self.STEPS])
        self.counts = counts
        # Does a reset by the kernel clear the memory? See vfio-sim's manual
        self.clears = kernel in SINCE_V5
        self.case = Case(machine, 'any', 'legacy', 'none', smp=2,
                         kernel=kernel, topology=ONE)
        self.seed = ''
        self.backing = Backing(Path(), 1)
        self.count: Callable[[str], int] = lambda name: 0

    def steps(self, harness: Harness) -> None:
        state = harness.new_state(self.name)
        self.backing = Backing(state / 'memory', 1)
        self.backing.write_tokens()
        image = harness.image(self.machine)
        initrd = state / 'initramfs.cpio'
        add_files(image.initramfs, initrd, {'boot/vmlinuz': image.kernel,
                                            'boot/initrd': image.initramfs})
        # On arm64 Linux (7.3) puts a port without devices to sleep, and then
        # waits for a wake-up event that QEMU's root ports do not send
        command = harness.command(self.case, self.backing.path,
                                  'cxlguest.mode=session pcie_port_pm=off',
                                  initrd)
        command += ['-device', vfio_device(0, 'rp0', self.case.backend,
                                           'auto')]
        self.count = lambda name: harness.stat(state / 'memory', name)
        limit = 120 + 90 * (self.counts.reboots + self.counts.system_resets) \
            + 5 * self.counts.resets + 60 * self.counts.replugs
        with Session(harness.children, command, harness.log(self.name),
                     limit) as session:
            session.wait_ready()
            maps = self.mapped_once('start', (0, 0))
            self.use(session, self.clears, 'firmware', 'all')
            self.done(self.prefix + 'start', maps)
            self.resets(session)
            self.replug(session)
            self.reboot(session)
            self.system_reset(session)
            self.kexec(session)
            power_off(session)
            self.done(self.prefix + 'end')
        initrd.unlink()

    def use(self, session: Session, cleared: bool, mode: str,
            actions: str = BRIEF) -> None:
        """The guest's checks; the host's bytes in, the guest's bytes out."""
        self.seed = new_seed()
        text = session.run(
            f'cxl-guest --mode={mode} --actions={actions} --seed={self.seed} '
            + self.backing.argument(cleared))
        wrong = self.backing.lacking(self.seed)
        if wrong:
            raise GuestError("the backing file lacks the guest's bytes at "
                             + ', '.join(wrong) + '\n' + '\n'.join(text[-5:]))

    def maps(self) -> Tuple[int, int]:
        """How often memory was mapped for DMA, and the device reset."""
        return self.count('memory-maps'), self.count('resets')

    def mapped_once(self, what: str, before: Tuple[int, int]) -> str:
        """The guest has booted: memory was mapped once for each reset, if the
        kernel does not take it away with Memory Space. Firmware may reset the
        machine once more when it is reset.
        """
        maps, resets = (a - b for a, b in zip(self.maps(), before))
        text = f'memory mapped {maps} times for DMA, {resets} resets'
        if self.case.kernel not in SPACE_GATE and maps != resets:
            raise GuestError(f'{what}: {text}')
        return text

    def survived(self, what: str, cleared: bool) -> None:
        """Contents as the kernel generation has it, seen from the host."""
        if cleared:
            if not self.backing.is_clear():
                raise GuestError(f'{what}: {self.case.kernel} clears the '
                                 'memory, but not all of it is clear')
            return
        wrong = self.backing.lacking(self.seed)
        if wrong or not self.backing.holds_tokens():
            raise GuestError(f'{what}: {self.case.kernel} keeps the memory, '
                             'but it has changed at '
                             + (', '.join(wrong) or "the host's bytes"))

    def resets(self, session: Session) -> None:
        """The guest resets the device while it uses it."""
        lines = session.run(
            f'cxl-guest --mode=any --actions=resets '
            f'--rounds={self.counts.resets}'
            + (' --clears' if self.clears else '')
            + (' --space-gate' if self.case.kernel in SPACE_GATE else ''),
            PATIENCE + 5 * self.counts.resets)
        said = next(x for x in lines if x.startswith('GUEST: ok resets '))
        got = pairs(said)
        # v5 lets no device leave D0, and D3hot is one step of so many kinds
        kept = self.counts.resets // int(got['kinds']) \
            if self.case.kernel == 'v5' else 0
        if (got['rounds'], got['kept-in-d0']) != (str(self.counts.resets),
                                                  str(kept)):
            raise GuestError(f'not {self.counts.resets} rounds, or not {kept} '
                             f'of them without D3hot: {said}')
        # The threads have written everywhere
        self.backing.write_tokens()
        self.use(session, False, 'any')
        self.done(self.prefix + 'resets', said[17:])

    def replug(self, session: Session) -> None:
        """Unplug with the guest's consent, and plug again."""
        bdf = session.run('accelerators')[-1]
        for turn in range(self.counts.replugs):
            # The guest's checks have used the place of the host's bytes
            self.backing.write_tokens()
            session.monitor.execute('device_del', id='accel0')
            if turn >= self.counts.buttons:
                # The administrator in the guest does not wait the five
                # seconds in which the button could be pressed again
                session.run('for slot in /sys/bus/pci/slots/*; do '
                            'grep -q "^${bdf%.*}\\$" $slot/address && '
                            'echo 0 > $slot/power; done; true'
                            .replace('${bdf%.*}', bdf.rsplit('.', 1)[0]))
            session.monitor.wait_event('DEVICE_DELETED', device='accel0')
            session.run('! [ -e /sys/bus/pci/devices/' + bdf + ' ]')
            # QEMU resets a device when the guest switches its slot off
            self.survived(f'unplug {turn}', self.clears)
            session.monitor.execute('device_add', **device_arguments(
                vfio_device(0, 'rp0', self.case.backend, 'auto')))
            session.run('n=0; while ! [ -e /sys/bus/pci/devices/' + bdf
                        + '/reset ] && [ $n -lt 600 ]; do sleep 0.1; '
                        'n=$((n + 1)); done; [ $n -lt 600 ]')
            # Nothing has to be programmed above it: QEMU has committed it
            self.use(session, self.clears, 'firmware')
        self.done(self.prefix + 'replug', f'{self.counts.replugs} times')

    def reboot(self, session: Session) -> None:
        """The guest reboots, and finds the device as at the start."""
        maps = []
        for turn in range(self.counts.reboots):
            self.backing.write_tokens()
            before = self.maps()
            session.type('reboot -f')
            session.wait_for('GUEST: boot ')
            session.wait_ready()
            maps.append(self.mapped_once(f'reboot {turn}', before))
            self.survived(f'reboot {turn}', self.clears)
            self.use(session, self.clears, 'firmware')
        self.done(self.prefix + 'reboot',
                  f'{self.counts.reboots} times; {maps[-1]}')

    def system_reset(self, session: Session) -> None:
        """The machine is reset from outside, under load."""
        for turn in range(self.counts.system_resets):
            session.run('cxl-guest --mode=any --actions=resets '
                        '--rounds=1000000 > /tmp/load & n=0; while ! grep -q '
                        '"ok map" /tmp/load && [ $n -lt 600 ]; do sleep 0.1; '
                        'n=$((n + 1)); done; [ $n -lt 600 ]')
            self.backing.write_tokens()
            session.monitor.execute('system_reset')
            session.wait_for('GUEST: boot ')
            session.wait_ready()
            if not self.clears and not self.backing.holds_tokens():
                raise GuestError(f'system_reset {turn}: {self.case.kernel} '
                                 'keeps the memory, but it has changed')
            self.use(session, self.clears, 'firmware')
        self.done(self.prefix + 'system-reset',
                  f'{self.counts.system_resets} times')

    def kexec(self, session: Session) -> None:
        """Another kernel without a reset: the memory stays as it is."""
        self.backing.write_tokens()
        # Not every kernel has the newer of the two system calls
        session.run('kexec -a -l /boot/vmlinuz --initrd=/boot/initrd '
                    '--reuse-cmdline')
        session.type('kexec -e')
        session.wait_for('GUEST: boot ')
        session.wait_ready()
        self.survived('kexec', False)
        self.use(session, False, 'firmware')
        self.done(self.prefix + 'kexec')


class ReplugTest(SessionTest):
    """Linux's CXL drivers lose a device below a switch, and get it back."""

    STEPS = ('region', 'unplug', 'plug')

    def __init__(self, machine: str) -> None:
        name = f'{machine}-replug-cxl'
        self.prefix = f'guest/{name}/'
        super().__init__(name, machine,
                         [self.prefix + step for step in self.STEPS])
        self.case = Case(machine, 'firmware', 'legacy', 'cxl', kernel='v6',
                         topology=SWITCH)

    def regions(self, session: Session, wanted: str) -> None:
        """Wait until these are all regions, as START-SIZE."""
        session.run(
            'for n in $(seq 100); do found=; for r in '
            '/sys/bus/cxl/devices/region*/resource; do [ ! -e $r ] || '
            'found="$found$(cat $r)-$(cat ${r%/*}/size)"; done; '
            f'[ "$found" = "{wanted}" ] && break; sleep 0.1; done; '
            f'echo "regions: $found"; [ "$found" = "{wanted}" ]')

    def steps(self, harness: Harness) -> None:
        backing = Backing(harness.new_state(self.name) / 'memory', 1)
        backing.write_tokens()
        option = vfio_device(0, self.case.topology.slots[0],
                             self.case.backend, 'auto')
        # See LifeTest
        command = harness.command(self.case, backing.path,
                                  'cxlguest.mode=session pcie_port_pm=off',
                                  harness.image(self.machine).initramfs)
        with Session(harness.children, command + ['-device', option],
                     harness.log(self.name), 240) as session:
            session.wait_ready()
            if session.run('[ -e /modules/cxl-accel.ko ] || echo none'):
                for step in self.STEPS:
                    self.skip(self.prefix + step, 'this kernel has no '
                              'interface for CXL accelerator drivers')
                power_off(session)
                return
            session.run('insmod /modules/cxl-accel.ko cxl=1')
            decoder, = session.monitor.execute(
                'query-vfio-cxl')[0]['decoders']    # type: ignore
            region = f'{decoder["base"]:#x}-{decoder["size"]:#x}'
            self.regions(session, region)
            self.done(self.prefix + 'region', region)
            for _ in range(2):
                bdf = session.run('accelerators')[-1]
                session.monitor.execute('device_del', id='accel0')
                session.monitor.wait_event('DEVICE_DELETED', device='accel0')
                self.regions(session, '')
                session.monitor.execute('device_add',
                                        **device_arguments(option))
                session.run(f'for n in $(seq 300); do [ -e /dev/cxl-accel-{bdf}'
                            ' ] && break; sleep 0.1; done')
                self.regions(session, region)
            self.done(self.prefix + 'unplug')
            # The device reaches memory as before
            session.run(f'cxl-guest --device={bdf} --mode=firmware '
                        f'--driver=/dev/cxl-accel-{bdf} --seed={new_seed()}')
            power_off(session)
            self.done(self.prefix + 'plug', 'twice')


def device_arguments(text: str) -> Dict[str, object]:
    """device_add's arguments from an option of -device."""
    words = text.split(',')
    found: Dict[str, object] = {'driver': words[0]}
    for word in words[1:]:
        key, value = word.split('=', 1)
        found[key] = value
    return found


def life_tests(long: bool) -> List[SessionTest]:
    """On each machine; the long form on all kinds of kernel."""
    if long:
        return [LifeTest(machine, kernel, LONG)
                for kernel in ('v2-reset', 'v4', 'v5', 'v6')
                for machine in ('q35', 'virt')]
    return [LifeTest('q35', 'v2-reset', SHORT), LifeTest('virt', 'v6', SHORT),
            ReplugTest('q35'), ReplugTest('virt')]
