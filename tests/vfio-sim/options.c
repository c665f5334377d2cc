/*
 * vfio-sim: the options of the launcher
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "launcher.h"
#include "mangle.h"

#define NUM(a) (sizeof(a) / sizeof((a)[0]))

/* Columns of --help */
#define HELP_INDENT 23
#define HELP_WIDTH  78

typedef struct Option Option;

struct Option {
    const char *name;
    char letter;            /* short form, or 0 */
    const char *argument;   /* with what stands before it; NULL: none */
    const char *help;
    void (*set)(Launch *launch, const Option *option, const char *value);
    size_t field;           /* for setters that serve several options */
    /*
     * Checks whether an existing state directory matches the option. NULL: the
     * option does not concern it.
     */
    bool (*fits)(const SimConfig *wanted, const SimConfig *old);
    const char *heading;    /* of the options from here on */
};

static const char control_help[] =
"Control commands, also taken as lines of text by the socket DIR/control:\n"
"  devices              the devices and their decoders\n"
"  maps                 DMA mappings that the program has made\n"
"  iommu                SMMUs, streams and objects of /dev/iommu\n"
"  mmaps HOST           regions of the device that it has mapped\n"
"  writes HOST [clear]  writes that reached the kernel, the last 1024\n"
"  stats HOST           counts of resets, interrupts, accesses, ...\n"
"  fault HOST OP errno=N [count=K] [skip=M]   let OP fail, K times or always,\n"
"                       after M calls have passed; OP is an ioctl\n"
"                       (device_reset, ioas_map, ...), open, cxl-reset, flr,\n"
"                       any, or pread-, pwrite-, mmap- with a region (bar0,\n"
"                       config, memory, comp-regs, ...)\n"
"  fault HOST clear     no more faults\n"
"  set HOST hardware-committed=0|1   the decoder after the next open or reset\n"
"  set HOST viable=0|1  whether the device's group may be used\n"
"  set HOST mangle=NAME a malformation, or none\n"
"  set HOST reset-enables-memory=0|1 v2-reset: a reset enables Memory Space\n"
"  set HOST keeps-base=0|1           v2-reset: a reset keeps the decoder's base\n"
"  set HOST dma-buf-exporter=0|1     v2: the base kernel exports BARs\n"
"  set HOST reset-busy=N             v5, v6: the next N resets fail: EAGAIN\n"
"  set HOST reset-delay=N            each reset takes N milliseconds\n"
"  set HOST no-flr=0|1               no FLR, but a reset by D3, when next opened\n"
"  set HOST no-write-back=0|1        no Cache Writeback, when next opened\n"
"  set HOST reset-clears=0|1         v5, v6: whether a reset clears the memory\n"
"  set HOST fault-ns=N               each page fault takes N nanoseconds\n"
"  set HOST sbr-unmasked=0|1         v5, v6: hot resets reach the device\n"
"  set HOST active-delay=N           v6: memory is back N milliseconds after a\n"
"                       reset or D3\n"
"  set HOST dvsec-snapshot=0|1       v6: Memory_Active in the DVSEC stays set\n"
"  set HOST no-bar-areas=0|1         v6: no part of BAR 0 can be mapped\n"
"  set HOST guard-map=0|1            --kernel=none: like --guard-map\n"
"  set HOST pfnmap=0|1  whether iommufd maps device memory by its address\n"
"  set HOST lose-invalidations=N     the next N commands behind its SMMUv3 are\n"
"                       acknowledged and not done\n"
"  set HOST lose-events=N            the next N events of its SMMUv3 are lost\n"
"  set HOST geometry-id=N, set HOST geometry-form=u64|u32\n"
"  poison HOST OFFSET [vcpu]  an uncorrectable error in the memory\n"
"  irq HOST N           let the device raise interrupt N\n"
"  err HOST, req HOST   signal the error or the unplug request eventfd\n"
"\n"
"Exit status: COMMAND's, 128 + N if signal N ended it, 2 on a usage error, 126\n"
"if COMMAND cannot be run and 127 if it is not found. With --control: 0 if the\n"
"command succeeded, else 1.\n";

/* -- setters */

static void set_text(Launch *launch, const Option *option, const char *value)
{
    *(const char **)((char *)launch + option->field) = value;
}

static void set_flag(Launch *launch, const Option *option, const char *value)
{
    *(bool *)((char *)launch + option->field) = true;
}

static void set_kernel(Launch *launch, const Option *option, const char *value)
{
#define NAME(name, id) name,
#define WORD(name, id) " " name
    static const char *const names[] = { SIM_KERNELS(NAME) };
    SimConfig *config = &launch->config;
    unsigned i;

    for (i = 0; i < NUM(names); i++) {
        /* Without a value it is the default */
        if (!value || !strcmp(value, names[i])) {
            snprintf(config->kernel, sizeof(config->kernel), "%s", names[i]);
            return;
        }
    }
    die("--kernel=%s is unknown; expected one of" SIM_KERNELS(WORD), value);
}

static void set_devices(Launch *launch, const Option *option,
                        const char *value)
{
    uint64_t n;

    if (!sim_parse_number(value, SIM_MAX_DEVICES, &n) || !n) {
        die("--devices=%s must be a number from 1 to %d", value,
            SIM_MAX_DEVICES);
    }
    launch->config.devices = n;
}

static void set_memory(Launch *launch, const Option *option, const char *value)
{
    static const char units[] = "kKmMgGtT";
    size_t len = strlen(value);
    const char *unit = len ? strchr(units, value[len - 1]) : NULL;
    unsigned shift = unit ? 10 * ((unit - units) / 2 + 1) : 0;
    char number[32];
    uint64_t n;

    snprintf(number, sizeof(number), "%.*s", (int)(len - !!unit), value);
    if (len >= sizeof(number) || !sim_parse_number(number, UINT64_MAX, &n)) {
        die("--memory=%s is not a size; give a number with K, M, G or T",
            value);
    }
    if (!n || n > SIM_MEM_MAX >> shift || (n << shift) % SIM_MEM_UNIT) {
        die("--memory=%s must be a multiple of 256M, up to 4T", value);
    }
    launch->config.memory = n << shift;
}

static void set_topology(Launch *launch, const Option *option,
                         const char *value)
{
    if (strlen(value) != 1 || !strchr("ABC", value[0])) {
        die("--topology=%s must be A, B or C", value);
    }
    launch->config.topology = value[0];
}

static void set_decoders(Launch *launch, const Option *option,
                         const char *value)
{
    uint64_t n;

    /* Other numbers cannot be encoded, more would overlap later registers */
    if (!sim_parse_number(value, 14, &n) || !n || (n > 1 && n % 2)) {
        die("--decoders=%s must be 1, 2, 4, 6, 8, 10, 12 or 14", value);
    }
    launch->config.decoders = n;
}

static void set_decoder(Launch *launch, const Option *option,
                        const char *value)
{
    if (strcmp(value, "locked") && strcmp(value, "unlocked") &&
        strcmp(value, "uncommitted") && strcmp(value, "interleaved")) {
        die("--decoder=%s must be locked, unlocked, uncommitted or "
            "interleaved", value);
    }
    strcpy(launch->config.decoder, value);
}

static void set_iova(Launch *launch, const Option *option, const char *value)
{
    if (strcmp(value, "x86") && strcmp(value, "arm")) {
        die("--iova=%s must be x86 or arm", value);
    }
    strcpy(launch->config.iova, value);
}

static bool smmu_number(const char *value, unsigned min, unsigned max,
                        unsigned *field)
{
    uint64_t n;

    if (!sim_parse_number(value, max, &n) || n < min) {
        return false;
    }
    *field = n;
    return true;
}

static bool smmu_oas(SimSmmuConfig *smmu, const char *value)
{
    static const uint8_t bits[] = { 32, 36, 40, 42, 44, 48, 52 };

    return smmu_number(value, 32, 52, &smmu->oas) &&
           memchr(bits, smmu->oas, sizeof(bits));
}

static bool smmu_set(SimSmmuConfig *smmu, const char *key, const char *value)
{
    if (!strcmp(key, "ats")) {
        smmu->ats = !strcmp(value, "on");
        return smmu->ats || !strcmp(value, "off");
    }
    if (!strcmp(key, "pasid-bits")) {
        return smmu_number(value, 0, 20, &smmu->pasid_bits);
    }
    if (!strcmp(key, "oas")) {
        return smmu_oas(smmu, value);
    }
    return !strcmp(key, "smmus") &&
           smmu_number(value, 1, SIM_MAX_DEVICES, &smmu->count);
}

static void set_iommu(Launch *launch, const Option *option, const char *value)
{
    SimSmmuConfig smmu = {
        .count = SIM_MAX_DEVICES, .ats = true, .pasid_bits = 20, .oas = 48,
    };
    char copy[128], *save, *word;

    if (snprintf(copy, sizeof(copy), "%s", value) >= (int)sizeof(copy)) {
        die("--iommu=%s is too long", value);
    }
    word = strtok_r(copy, ",", &save);
    if (!word || strcmp(word, "smmuv3")) {
        die("--iommu=%s is unknown; there is smmuv3", value);
    }
    while ((word = strtok_r(NULL, ",", &save))) {
        char *eq = strchr(word, '=');

        if (eq) {
            *eq++ = '\0';
        }
        if (!eq || !smmu_set(&smmu, word, eq)) {
            die("--iommu=%s must be smmuv3 with any of ats=on|off, "
                "pasid-bits=0 to 20, oas=32, 36, 40, 42, 44, 48 or 52, and "
                "smmus=1 to %d", value, SIM_MAX_DEVICES);
        }
    }
    launch->config.smmu = smmu;
}

static void set_mangle(Launch *launch, const Option *option, const char *value)
{
    if (!strcmp(value, "help")) {
        sim_mangle_help();
        exit(0);
    }
    launch->mangle = value;
}

static void add_spec(char **list, unsigned *n, const char *text)
{
    if (*n == SIM_MAX_SPECS || strchr(text, '\n')) {
        die("too many or malformed options --fault and --set");
    }
    list[(*n)++] = strdup(text);
}

static void add_fault(Launch *launch, const Option *option, const char *value)
{
    add_spec(launch->config.faults, &launch->config.num_faults, value);
}

static void add_knob(Launch *launch, const Option *option, const char *value)
{
    add_spec(launch->config.knobs, &launch->config.num_knobs, value);
}

static void print_library(Launch *launch, const Option *option,
                          const char *value)
{
    char path[PATH_MAX];

    find_library(path, sizeof(path));
    puts(path);
    exit(0);
}

static void print_version(Launch *launch, const Option *option,
                          const char *value)
{
    puts("vfio-sim " VERSION);
    exit(0);
}

static void print_help(Launch *launch, const Option *option,
                       const char *value);

/* -- does a state directory fit? */

static bool fits_kernel(const SimConfig *wanted, const SimConfig *old)
{
    return !strcmp(wanted->kernel, old->kernel);
}

static bool fits_devices(const SimConfig *wanted, const SimConfig *old)
{
    return wanted->devices == old->devices;
}

static bool fits_memory(const SimConfig *wanted, const SimConfig *old)
{
    return wanted->memory == old->memory;
}

static bool fits_topology(const SimConfig *wanted, const SimConfig *old)
{
    return wanted->topology == old->topology;
}

static bool fits_decoders(const SimConfig *wanted, const SimConfig *old)
{
    return wanted->decoders == old->decoders;
}

static bool fits_decoder(const SimConfig *wanted, const SimConfig *old)
{
    return !strcmp(wanted->decoder, old->decoder);
}

static bool fits_inactive(const SimConfig *wanted, const SimConfig *old)
{
    return wanted->inactive == old->inactive;
}

static bool fits_iommu(const SimConfig *wanted, const SimConfig *old)
{
    const SimSmmuConfig *a = &wanted->smmu, *b = &old->smmu;

    return a->count == b->count && a->ats == b->ats &&
           a->pasid_bits == b->pasid_bits && a->oas == b->oas;
}

/* What may have changed since */
static bool fits_never(const SimConfig *wanted, const SimConfig *old)
{
    return false;
}

/* -- the table */

static const Option options[] = {
    { "kernel", .argument = "=GENERATION", .heading = "Devices",
      .help = "the kernel to stand in for:" SIM_KERNELS(WORD) ", of which "
              "the first is the default and the last one has no CXL",
      .set = set_kernel, .fits = fits_kernel },
    { "devices", .argument = "=N",
      .help = "number of devices, 1 (default) to 16; the second has the "
              "address 0000:c2:00.0, and so on",
      .set = set_devices, .fits = fits_devices },
    { "memory", .argument = "=SIZE",
      .help = "memory of each device, a multiple of 256M up to 4T (default "
              "256M); takes no space until it is written",
      .set = set_memory, .fits = fits_memory },
    { "memory-file", .argument = "=PATH",
      .help = "file that holds the first device's memory; the others use "
              "PATH.1, PATH.2, ... (default: in the state directory)",
      .set = set_text, .field = offsetof(Launch, memory_file),
      .fits = fits_never },
    { "topology", .argument = "=A|B|C",
      .help = "component registers at the end (A, the default), at the start "
              "(B) or in the middle (C) of BAR 0",
      .set = set_topology, .fits = fits_topology },
    { "decoders", .argument = "=N",
      .help = "HDM decoders: 1 (default), 2, 4, ... 14",
      .set = set_decoders, .fits = fits_decoders },
    { "decoder", .argument = "=STATE",
      .help = "how the host's firmware has left the first of them: locked "
              "(default), unlocked, uncommitted, interleaved",
      .set = set_decoder, .fits = fits_decoder },
    { "geometry-id", .argument = "=N",
      .help = "since v4: id of the capability that locates the registers "
              "(default 6, which is a guess)",
      .set = set_text, .field = offsetof(Launch, geometry_id),
      .fits = fits_never },
    { "geometry-form", .argument = "=F",
      .help = "since v4: type of its offset, u64 (default, a guess) or u32",
      .set = set_text, .field = offsetof(Launch, geometry_form),
      .fits = fits_never },
    { "inactive",
      .help = "v6: memory is not active in time when the driver binds",
      .set = set_flag, .field = offsetof(Launch, config.inactive),
      .fits = fits_inactive },
    { "guard-map",
      .help = "--kernel=none: writes to the CXL Device DVSEC are filtered",
      .set = set_text, .field = offsetof(Launch, guard_map),
      .fits = fits_never },
    { "mangle", .argument = "=NAME",
      .help = "a malformed reply or an odd device; --mangle=help lists them",
      .set = set_mangle, .fits = fits_never },
    { "iommu", .argument = "=smmuv3[,..]",
      .help = "the host has SMMUv3s with nested translation, for iommufd; "
              "with ats=on|off (on), pasid-bits=0..20 (20), oas=BITS (48) and "
              "smmus=N, over which the devices are spread (one for each)",
      .set = set_iommu, .fits = fits_iommu },
    { "iova", .argument = "=x86|arm",
      .help = "the host's IOVA ranges: which interrupt window they exclude "
              "(default x86, with an SMMUv3 arm)",
      .set = set_iova },
    { "raise-memlock",
      .help = "let programs raise the limit on locked memory, as privileged "
              "VM management software can",
      .set = set_flag, .field = offsetof(Launch, config.raise_memlock) },
    { "fault", .argument = "=SPEC",
      .help = "like the control command \"fault\", from the start",
      .set = add_fault, .fits = fits_never },
    { "set", .argument = "=SPEC",
      .help = "like the control command \"set\", from the start",
      .set = add_knob, .fits = fits_never },

    { "state-dir", .argument = "=DIR", .heading = "Running",
      .help = "keep the state in DIR, instead of a temporary directory that "
              "is removed at the end",
      .set = set_text, .field = offsetof(Launch, state_dir) },
    { "prepare", .argument = " DIR",
      .help = "only make the state directory; run programs with "
              "LD_PRELOAD=LIBRARY VFIO_SIM_DIR=DIR",
      .set = set_text, .field = offsetof(Launch, prepare) },
    { "library",
      .help = "print the path of that LIBRARY",
      .set = print_library },
    { "control", .argument = " DIR",
      .help = "send a command to the program that uses DIR and print its "
              "reply",
      .set = set_text, .field = offsetof(Launch, control_dir) },
    { "preload", .argument = "=LIST",
      .help = "libraries to preload before vfio-sim's own; a command that "
              "was built with AddressSanitizer is recognised",
      .set = set_text, .field = offsetof(Launch, preload) },
    { "help", 'h', .help = "print this", .set = print_help },
    { "version", 'V', .help = "print the version", .set = print_version },
};

_Static_assert(NUM(options) <= 32, "they are the bits of Launch.given");

/* -- --help */

/* Print words from a column on, and the rest below */
static void print_wrapped(const char *text, int column)
{
    while (*text) {
        int length = strcspn(text, " ");

        if (column + length > HELP_WIDTH) {
            printf("\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        printf("%.*s", length, text);
        column += length;
        text += length;
        if (*text && column + 1 + strcspn(text + 1, " ") <= HELP_WIDTH) {
            putchar(' ');
            column++;
        } else if (*text) {
            column = HELP_WIDTH;
        }
        text += *text == ' ';
    }
    putchar('\n');
}

static void print_option(const Option *option)
{
    char label[64], letter[8] = "";

    if (option->heading) {
        printf("\n%s:\n", option->heading);
    }
    if (option->letter) {
        snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    }
    snprintf(label, sizeof(label), "  %s--%s%s", letter, option->name,
             option->argument ? option->argument : "");
    printf("%-*s", HELP_INDENT, label);
    print_wrapped(option->help, HELP_INDENT);
}

static void print_help(Launch *launch, const Option *option, const char *value)
{
    unsigned i;

    puts("Usage: vfio-sim [OPTION]... -- COMMAND [ARGUMENT]...\n"
         "       vfio-sim [OPTION]... --prepare DIR\n"
         "       vfio-sim --control DIR CONTROL-COMMAND...\n"
         "\n"
         "Runs COMMAND on a stand-in for the kernel's VFIO interface, with CXL "
         "Type-2\n"
         "devices that this machine does not have. The first has the host "
         "address\n"
         "0000:c1:00.0, the IOMMU group 1 and /dev/vfio/devices/vfio0, for "
         "example:\n"
         "\n"
         "  vfio-sim -- qemu-system-x86_64 -device vfio-pci,host=0000:c1:00.0 "
         "...");
    for (i = 0; i < NUM(options); i++) {
        print_option(&options[i]);
    }
    putchar('\n');
    fputs(control_help, stdout);
    exit(0);
}

/* -- faults and knobs */

/* A knob of all devices */
static void set_knob(SimConfig *config, const char *knob, const char *value)
{
    char spec[128], host[16];
    unsigned i;

    for (i = 0; value && i < config->devices; i++) {
        sim_config_host(i, host, sizeof(host));
        snprintf(spec, sizeof(spec), "%s %s=%s", host, knob, value);
        add_spec(config->knobs, &config->num_knobs, spec);
    }
}

/* "HOST REST": returns REST, or exits if HOST is none of the devices */
static const char *spec_device(const SimConfig *config, const char *option,
                               const char *spec)
{
    unsigned i;

    for (i = 0; i < config->devices; i++) {
        char host[16];
        size_t n;

        sim_config_host(i, host, sizeof(host));
        n = strlen(host);
        if (!strncmp(spec, host, n) && spec[n] == ' ') {
            return spec + n + 1;
        }
    }
    die("--%s=%s must begin with the address of a device, such as "
        "\"0000:c1:00.0 \"", option, spec);
}

static void check_specs(const SimConfig *config)
{
    const char *err;
    SimFault fault;
    SimKnob knob;
    const char *kernel = sim_config_bound(config);
    uint32_t value;
    unsigned i;

    for (i = 0; i < config->num_faults; i++) {
        const char *spec = config->faults[i];

        err = sim_fault_parse(spec_device(config, "fault", spec), &fault);
        if (err) {
            die("--fault=%s: %s", spec, err);
        }
    }
    for (i = 0; i < config->num_knobs; i++) {
        const char *spec = config->knobs[i];

        err = sim_knob_parse(spec_device(config, "set", spec), &knob, &value);
        if (err) {
            die("--set=%s: %s", spec, err);
        }
        if (knob == SIM_KNOB_MANGLE && kernel &&
            !sim_mangle_concerns(value, kernel)) {
            die("the malformation \"%s\" does not concern a kernel of "
                "generation %s; see --mangle=help", sim_mangle_name(value),
                kernel);
        }
    }
}

/* -- for the rest of the launcher */

bool options_fit(const Launch *launch, const SimConfig *old)
{
    unsigned i;

    for (i = 0; i < NUM(options); i++) {
        if ((launch->given & 1u << i) && options[i].fits &&
            !options[i].fits(&launch->config, old)) {
            return false;
        }
    }
    return true;
}

static void set_defaults(Launch *launch)
{
    SimConfig *config = &launch->config;

    *launch = (Launch) { 0 };
    set_kernel(launch, NULL, NULL);
    config->devices = 1;
    config->memory = SIM_MEM_UNIT;
    config->topology = 'A';
    config->decoders = 1;
    strcpy(config->decoder, "locked");
}

/* What depends on two options, in whichever order they came */
static void finish_iommu(SimConfig *config)
{
    if (!config->iova[0]) {
        strcpy(config->iova, config->smmu.count ? "arm" : "x86");
    }
    if (config->smmu.count && strcmp(config->iova, "arm")) {
        die("--iommu=smmuv3 is an Arm host's: leave out --iova=x86");
    }
    if (config->smmu.count > config->devices) {
        config->smmu.count = config->devices;
    }
}

int options_parse(Launch *launch, int argc, char **argv)
{
    /* What getopt_long() returns for the option 0 of the table */
    enum { FIRST = 256 };
    struct option longs[NUM(options) + 1] = { 0 };
    char shorts[2 + NUM(options)] = "+";
    unsigned i, n = 1;
    int found;

    for (i = 0; i < NUM(options); i++) {
        longs[i].name = options[i].name;
        longs[i].has_arg = options[i].argument ? required_argument :
                                                 no_argument;
        longs[i].val = FIRST + i;
        if (options[i].letter) {
            shorts[n++] = options[i].letter;
        }
    }
    shorts[n] = '\0';
    set_defaults(launch);
    while ((found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (found == '?') {
            fputs("vfio-sim: see --help\n", stderr);
            exit(2);
        }
        for (i = 0; found != FIRST + (int)i && found != options[i].letter;
             i++) {
            continue;
        }
        launch->given |= 1u << i;
        options[i].set(launch, &options[i],
                       options[i].argument ? optarg : "1");
    }
    finish_iommu(&launch->config);
    if (!launch->control_dir) {
        set_knob(&launch->config, "geometry-id", launch->geometry_id);
        set_knob(&launch->config, "geometry-form", launch->geometry_form);
        set_knob(&launch->config, "guard-map", launch->guard_map);
        set_knob(&launch->config, "mangle", launch->mangle);
        check_specs(&launch->config);
    }
    return optind;
}
